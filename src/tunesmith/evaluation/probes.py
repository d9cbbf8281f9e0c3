"""General ability in small questions: grammar, everyday facts, arithmetic, following instructions.

The items come from templates and hand-written lists in ``probe_lists/``. Each has one right option and one or
two wrong ones; a model answers by likelihood and never has to generate. The grammar pairs follow the idea of
minimal pairs in BLiMP (Warstadt et al. 2020); no item is taken from it or from any other benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

from tunesmith.files import content_hash

# Per operation; fixed, because another set of items is another measurement.
_ADDITIONS = _SUBTRACTIONS = _MULTIPLICATIONS = _COMPARISONS = _SEQUENCES = 38
_WORDED_SUMS = 30
_NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
)


@dataclass(frozen=True)
class ProbeItem:
    """One question with its options; ``options[right]`` is the right one.

    ``prompt`` and an option joined are the whole text: outside chat an option starts with its space. With
    ``chat`` the prompt is what a user says and the option what the assistant answers. ``group`` is shared
    by items that are nearly the same question.
    """

    id: str
    domain: str
    prompt: str
    options: tuple[str, ...]
    right: int
    chat: bool
    group: str


@dataclass(frozen=True)
class _Question:
    section: str
    group: str
    prompt: str
    right: str
    wrong: tuple[str, ...]


def probe_items() -> tuple[ProbeItem, ...]:
    """Every probe, always the same in the same order: domains grammar, facts, arithmetic, instructions."""
    return (
        *_items("grammar", _grammar(), chat=False),
        *_items("facts", _listed("facts.txt", one_group_a_list=False), chat=False),
        *_items("arithmetic", _arithmetic(), chat=False),
        *_items("instructions", _listed("instructions.txt", one_group_a_list=True), chat=True),
    )


def probes_sha256(items: Sequence[ProbeItem]) -> str:
    """Names a set of probes: scores of two different sets must never be compared."""
    return content_hash(list(items))


def list_lines(name: str) -> list[str]:
    """Lines of a file in ``probe_lists/`` that are neither empty nor comments."""
    text = (resources.files("tunesmith.evaluation") / "probe_lists" / name).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _items(domain: str, questions: Iterator[_Question], chat: bool) -> Iterator[ProbeItem]:
    """Give each question an id, and the right option every position in turn."""
    seen: dict[int, int] = {}
    for number, question in enumerate(questions):
        size = len(question.wrong) + 1
        right = seen.get(size, 0) % size
        seen[size] = seen.get(size, 0) + 1
        space = "" if chat else " "
        options = [space + wrong for wrong in question.wrong]
        options.insert(right, space + question.right)
        yield ProbeItem(
            id=f"{domain}/{number:03d} {question.section}",
            domain=domain,
            prompt=question.prompt,
            options=tuple(options),
            right=right,
            chat=chat,
            group=f"{domain}/{question.group}",
        )


def _grammar() -> Iterator[_Question]:
    section = group = ""
    for line in list_lines("grammar.txt"):
        if line.startswith("= "):
            section = line[2:]
            continue
        mirrored = line.startswith("+ ")
        sentence = line.removeprefix("+ ")
        group = group if mirrored else sentence
        before, pair, after = sentence.replace("}", "{").split("{")
        right, wrong = (form + after for form in pair.split("|"))
        yield _Question(section, group, before.rstrip(), right, (wrong,))


def _listed(name: str, one_group_a_list: bool) -> Iterator[_Question]:
    section = template = ""
    for line in list_lines(name):
        if line.startswith("= "):
            section, template = line[2:].split(": ", 1)
            continue
        subject, answers = line.split(" => ")
        right, *wrong = answers.split(" | ")
        group = section if one_group_a_list else f"{section}/{subject}"
        yield _Question(section, group, template.replace("{}", subject), right, tuple(wrong))


def _arithmetic() -> Iterator[_Question]:
    # Steps prime to the ranges walk through all pairs without repeating one early.
    for n in range(_ADDITIONS):
        a, b = 2 + n * 5 % 17, 3 + n * 7 % 23
        yield _numeric(n, "addition", f"{a} + {b}", f"{a} + {b} =", a + b)
    for n in range(_SUBTRACTIONS):
        b, rest = 2 + n * 5 % 13, 3 + n * 7 % 19
        yield _numeric(n, "subtraction", f"{b + rest} - {b}", f"{b + rest} - {b} =", rest)
    for n in range(_MULTIPLICATIONS):
        a, b = 2 + n % 9, 2 + (n // 9 * 2 + n) % 10
        yield _numeric(n, "multiplication", f"{a} x {b}", f"{a} x {b} =", a * b)
    for n in range(_WORDED_SUMS):
        a, b = 1 + n * 4 % 9, 1 + n * 7 % 8
        right, wrong = a + b, _near(a + b, n)
        prompt = f"{_NUMBER_WORDS[a].capitalize()} plus {_NUMBER_WORDS[b]} equals"
        wrong_words = tuple(_NUMBER_WORDS[number] for number in wrong)
        yield _Question("sum in words", f"words {a} + {b}", prompt, _NUMBER_WORDS[right], wrong_words)
    for n in range(_COMPARISONS):
        # Two digits each, and the larger one comes first in every other question.
        small, large = 11 + n * 7 % 41, 54 + n * 11 % 43
        pair = (small, large) if n % 2 else (large, small)
        word, right, wrong_one = ("larger", large, small) if n % 4 < 2 else ("smaller", small, large)
        prompt = f"Of the two numbers {pair[0]} and {pair[1]}, the {word} one is"
        yield _Question("comparison", f"{small} or {large}", prompt, str(right), (str(wrong_one),))
    for n in range(_SEQUENCES):
        start, step = 1 + n * 3 % 11, 2 + n % 9
        shown = ", ".join(str(start + step * place) for place in range(5))
        yield _numeric(n, "sequence", f"{start} by {step}", f"{shown},", start + 5 * step)


def _numeric(n: int, section: str, group: str, prompt: str, right: int) -> _Question:
    return _Question(section, f"{section} {group}", prompt, str(right), tuple(map(str, _near(right, n))))


def _near(right: int, n: int) -> tuple[int, int]:
    """Two wrong numbers near the right one, as many digits, now below, now around, now above it."""
    offsets = ((-1, 1), (1, 2), (-2, -1))[n % 3]
    wrong = (right + offsets[0], right + offsets[1])
    if all(number > 0 and len(str(number)) == len(str(right)) for number in wrong):
        return wrong
    direction = 1 if len(str(right + 2)) == len(str(right)) else -1
    return right + direction, right + 2 * direction
