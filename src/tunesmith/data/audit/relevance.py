"""Rows that are far from the task, the mix of domains, and the language of each row."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from tunesmith.data.audit.findings import AuditData, CheckResult, Finding, Severity, answered
from tunesmith.data.audit.ngrams import word_counts
from tunesmith.data.audit.texts import count, excerpt, last_user_text, share
from tunesmith.data.numbered import numbered_words
from tunesmith.errors import UserError
from tunesmith.stats.intervals import proportion_interval

Floats = npt.NDArray[np.float64]

# The rows taken as relevant, round by round, as shares of all rows: the nearest to the task first.
FEEDBACK_SHARES = (0.05, 0.1, 0.2, 0.4, 0.5)
# A row is far when its similarity is below this part of the middle similarity of the nearer half.
FAR_RATIO = 0.1
FEWEST_CONTENT_WORDS = 3
# When more of the examples themselves would be far, words cannot tell what belongs to this task.
MOST_FAR_EXAMPLES = 0.1
USUAL_FAR_SHARE = 0.04
PART_CHARACTERS = (4, 5)
VOCABULARY_ROWS = 100_000
VOCABULARY_PARTS = 100_000
_ROWS_AT_ONCE = 50_000
_WORD = re.compile(r"\w\w+")

LANGUAGE_SAMPLE = 1_000
# Letters from which a language can be told; py3langid is unsure below about five words.
FEWEST_LETTERS = 30
CERTAIN = 0.8
DOMAINS_SHOWN = 20
RARE_DOMAIN_SHARE = 0.01


@dataclass(frozen=True)
class TaskText:
    """What the task is about: a few inputs as they should be, and its description. Either may be empty."""

    examples: tuple[str, ...] = ()
    description: str = ""


def check_relevance(data: AuditData, task: TaskText) -> CheckResult:
    """Rows whose words have nothing to do with the task's.

    TF-IDF over parts of words (4 and 5 characters, so that "creditcard" and "credit card" meet; without
    English stop words; scikit-learn), cosine with the examples and the description, widened by
    pseudo-relevance feedback (Rocchio 1971): the nearest 5 % of the rows add their words, then 10 %, up to
    half, so that a few examples speak for tasks with many topics. Inputs with fewer than three content words
    are not judged. The vocabulary comes from at most 100,000 rows, evenly spaced; every row is judged.

    Of a task with many small topics some rows seem far: 2 to 3 % of banking77 (77 intents), none of e2e-nlg.
    So up to 4 % are a note, a list to look through. Unmeasured without example or description, and when more
    than one example in ten would be far itself: words then do not tell what belongs to the task.
    """
    check = "relevance"
    seeds = [text for text in (*task.examples, task.description) if text.strip()]
    if not seeds:
        why = "Neither example inputs nor a description of the task is given to compare rows with."
        return CheckResult(check, "unmeasured", why)
    inputs = [last_user_text(data, index) for index in range(len(data.rows))]
    similarity, of_seeds, content_words = _similarity(inputs, seeds)
    judged = content_words >= FEWEST_CONTENT_WORDS
    if judged.sum() < 2:
        why = f"No input has {FEWEST_CONTENT_WORDS} content words, so none can be compared with the task."
        return CheckResult(check, "unmeasured", why)
    middle = float(np.median(similarity[judged & (similarity >= np.median(similarity[judged]))]))
    far = np.flatnonzero(judged & (similarity < FAR_RATIO * middle))
    far = far[np.argsort(similarity[far], kind="stable")]
    rows = tuple(far.tolist())
    lost = int((of_seeds[: len(task.examples)] < FAR_RATIO * middle).sum())
    if lost > MOST_FAR_EXAMPLES * len(seeds):
        why = f"{share(lost, len(task.examples))} examples are far themselves: words cannot tell."
        return CheckResult(check, "unmeasured", why)
    unjudged = int((~judged).sum())
    summary = (
        f"{share(len(rows), int(judged.sum()))} inputs are far from the task; "
        f"{count(unjudged, 'input')} with fewer than {FEWEST_CONTENT_WORDS} content words not judged"
    )
    if not rows:
        return answered(check, summary, [])
    evidence = (
        f"{count(len(rows), 'input')} with less than {FAR_RATIO:g} of the usual similarity to the task "
        f"({FAR_RATIO * middle:.3f}); farthest: {excerpt(inputs[rows[0]])}"
    )
    severity: Severity = "warning" if len(rows) > USUAL_FAR_SHARE * judged.sum() else "note"
    return answered(check, summary, [Finding("far from the task", severity, rows, evidence, "ask")])


def _content_words(texts: Iterable[str]) -> tuple[csr_matrix, list[str]]:
    """Which words but English stop words each text has, shape (texts, words), and the words."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    numbered = numbered_words(_WORD.findall(text.lower()) for text in texts)
    kept = [place for place, word in enumerate(numbered.words) if word not in ENGLISH_STOP_WORDS]
    held = csr_matrix(word_counts(numbered)[:, kept])
    held.data[:] = 1
    return held, [numbered.words[place] for place in kept]


def _parts(word: str) -> list[str]:
    """The runs of four and five characters in a word with a space at its edges."""
    padded = f" {word} "
    return [
        padded[start : start + size] for size in PART_CHARACTERS for start in range(len(padded) - size + 1)
    ]


def _usual_parts(held: csr_matrix, words: Sequence[str]) -> csr_matrix:
    """How often each word has each of the parts that are most frequent in ``held``, shape (words, parts)."""
    numbered = numbered_words(map(_parts, words))
    order = np.array(sorted(range(len(numbered.words)), key=numbered.words.__getitem__), np.intp)
    counts = csr_matrix(word_counts(numbered)[:, order])
    times = np.asarray(held.sum(axis=0)).ravel() @ counts
    kept = np.flatnonzero(times)
    kept = np.sort(kept[np.argsort(-times[kept], kind="stable")[:VOCABULARY_PARTS]])
    return csr_matrix(counts[:, kept])


def _similarity(inputs: Sequence[str], seeds: Sequence[str]) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Cosine of inputs and seeds with the widened task, and how many content words each input has."""
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.preprocessing import normalize

    held, words = _content_words(chain(inputs, seeds))
    content_words = np.diff(held.indptr)[: len(inputs)].astype(np.int64)
    step = -(-len(inputs) // VOCABULARY_ROWS)
    fitted = held[np.concatenate([np.arange(0, len(inputs), step), np.arange(len(inputs), held.shape[0])])]
    parts = _usual_parts(fitted, words)
    if not parts.shape[1]:  # no text has a content word
        return np.zeros(len(inputs)), np.zeros(len(seeds)), content_words
    weights = TfidfTransformer(sublinear_tf=True).fit(csr_matrix(fitted @ parts, dtype=np.float32))

    def weighted(rows: slice) -> csr_matrix:
        return weights.transform(csr_matrix(held[rows] @ parts, dtype=np.float32), copy=False)

    starts = range(0, len(inputs), _ROWS_AT_ONCE)
    blocks = [weighted(slice(start, min(start + _ROWS_AT_ONCE, len(inputs)))) for start in starts]
    seed_block = weighted(slice(len(inputs), None))
    centre = normalize(np.asarray(seed_block.mean(axis=0)))
    similarity = _cosines(blocks, centre)
    for part in FEEDBACK_SHARES:
        chosen = np.zeros(len(inputs), dtype=np.bool_)
        chosen[np.argsort(-similarity, kind="stable")[: max(20, int(part * len(inputs)))]] = True
        total = np.zeros_like(centre)
        for number, block in enumerate(blocks):
            here = chosen[number * _ROWS_AT_ONCE : number * _ROWS_AT_ONCE + block.shape[0]]
            total += np.asarray(block[here].sum(axis=0))
        centre = normalize(total)
        similarity = _cosines(blocks, centre)
    return similarity, _cosines([seed_block], centre), content_words


def _cosines(blocks: Sequence[Any], centre: Floats) -> Floats:
    return np.concatenate([np.asarray(block @ centre.T, dtype=np.float64).ravel() for block in blocks])


def check_domains(data: AuditData, column: str | None) -> CheckResult:
    """The mix of domains in a named column: the share of each with its 95 % interval, and the rare ones.

    Unmeasured without a column. Raises UserError when the column does not exist.
    """
    check = "domains"
    if column is None:
        return CheckResult(check, "unmeasured", "No column is named that says which domain a row belongs to.")
    if column not in data.fields:
        known = ", ".join(data.fields) or "none"
        raise UserError(f"no column '{column}' (found: {known})", "Name a column that the data has.")
    values = [(value or "").strip() for value in data.fields[column]]
    groups = [row.group or f"row {index}" for index, row in enumerate(data.rows)]
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for index, value in enumerate(values):
        rows_of[value].append(index)
    ranked = sorted(rows_of, key=lambda value: (-len(rows_of[value]), value))
    shares = []
    for value in ranked[:DOMAINS_SHOWN]:
        estimate = proportion_interval([one == value for one in values], groups)
        low, high = 100 * estimate.low, 100 * estimate.high
        shares.append(f"{value or '(none)'} {100 * estimate.value:.1f} % [{low:.1f}, {high:.1f}]")
    findings = [
        Finding(
            "rare domain",
            "note",
            tuple(rows_of[value]),
            f"domain '{value}' has {share(len(rows_of[value]), len(values))} rows: too few to test there",
            "keep",
        )
        for value in ranked
        if value and len(rows_of[value]) < RARE_DOMAIN_SHARE * len(values)
    ][:DOMAINS_SHOWN]
    more = f"; {len(ranked) - DOMAINS_SHOWN:,} more" if len(ranked) > DOMAINS_SHOWN else ""
    return answered(
        check, f"{count(len(ranked), 'domain')} in column '{column}': {', '.join(shares)}{more}", findings
    )


def check_language(data: AuditData, languages: Sequence[str] = ()) -> CheckResult:
    """The language of each input, and inputs in another than those expected (ISO 639-1; none: the usual).

    py3langid (after Lui and Baldwin 2012) with its probability. Inputs with fewer than 30 letters (10 in
    Chinese, Japanese and Korean), or with a probability below 0.8, are counted as uncertain, never a finding.
    """
    check = "language"
    certain: dict[int, tuple[str, float]] = {}
    guessed: Counter[str] = Counter()
    for index, language, probability in _languages(data):
        if language is not None and probability >= CERTAIN:
            certain[index] = language, probability
            guessed[language] += 1
    total = len(data.rows)
    if not guessed:
        return CheckResult(
            check, "unmeasured", f"The language of none of {count(total, 'input')} can be told."
        )
    expected = tuple(languages) or (guessed.most_common(1)[0][0],)
    others: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    for index, (language, probability) in certain.items():
        if language not in expected:
            others[language].append((-probability, index))
    findings = []
    for language, found in sorted(others.items(), key=lambda item: -len(item[1])):
        rows = tuple(index for _, index in sorted(found))
        evidence = (
            f"{share(len(rows), total)} inputs in '{language}', expected {', '.join(expected)} (probability "
            f"{CERTAIN:g} or more): {excerpt(last_user_text(data, rows[0]))}"
        )
        findings.append(Finding("another language", "warning", rows, evidence, "ask"))
    mix = ", ".join(f"{language} {times:,}" for language, times in guessed.most_common(8))
    summary = f"{mix}; {share(total - len(certain), total)} inputs too short or uncertain"
    return answered(check, summary, findings)


def usual_language(data: AuditData) -> tuple[str, ...]:
    """The language (ISO 639-1) of most of 1,000 inputs, evenly spaced; none where it cannot be told."""
    some = range(0, len(data.rows), max(1, len(data.rows) // LANGUAGE_SAMPLE))
    guessed = Counter(
        language
        for _, language, probability in _languages(data, some)
        if language is not None and probability >= CERTAIN
    )
    return tuple(language for language, _ in guessed.most_common(1))


def _languages(data: AuditData, rows: Sequence[int] | None = None) -> Iterator[tuple[int, str | None, float]]:
    """Each row with the language of its input and the probability; None where there are too few letters."""
    identifier = _identifier()
    for index in range(len(data.rows)) if rows is None else rows:
        text = last_user_text(data, index)
        letters = sum(map(str.isalpha, text[:2000]))
        # Chinese, Japanese and Korean say with one character what others say with several letters.
        if letters < FEWEST_LETTERS and (
            text.isascii() or 3 * letters < FEWEST_LETTERS or text[:1] < "\u3040"
        ):
            yield index, None, 0.0
            continue
        language, probability = identifier.classify(text[:2000])
        yield index, language, probability


@lru_cache(1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
