"""General text that is on every machine: what a model should not get worse at while it learns a task.

Docstrings of the Python standard library, the data set descriptions that scikit-learn ships, and the base
model's own samples. The first two differ a little between versions of Python and scikit-learn, so the texts
are part of a result and are named by their hash.
"""

from __future__ import annotations

import ast
import functools
import re
import sysconfig
import textwrap
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from tunesmith.evaluation.probes import list_lines
from tunesmith.files import content_hash

MOST_CHARACTERS = 450
FEWEST_CHARACTERS = 250
SAMPLE_TOKENS = 64

# Given prompts of a user and the most tokens an answer may have, one answer for each prompt.
Sample = Callable[[Sequence[str], int], Sequence[str]]

_PASSAGES_PER_DESCRIPTION = 3
_STATEMENTS = (ast.stmt, ast.ExceptHandler, ast.match_case)
# Less than this share of letters and spaces is a table, a signature or an example session, not prose.
_PROSE = 0.85
# One docstring of each, so that many authors and topics are read. Removing one changes every later result.
_MODULES = (
    *("abc", "argparse", "ast", "asyncio/base_events", "asyncio/streams", "asyncio/tasks", "calendar"),
    *("codecs", "concurrent/futures/_base", "configparser", "contextlib", "copy", "csv", "dataclasses"),
    *("datetime", "difflib", "dis", "doctest", "email/charset", "email/header", "email/message", "enum"),
    *("filecmp", "fileinput", "fractions", "ftplib", "functools", "gettext", "gzip", "hashlib", "heapq"),
    *("http/client", "http/cookiejar", "http/server", "imaplib", "inspect", "ipaddress", "json/__init__"),
    *("locale", "logging/__init__", "logging/handlers", "mimetypes", "os", "pdb", "pickle", "pickletools"),
    *("platform", "pprint", "queue", "random", "sched", "selectors", "shelve", "shutil", "smtplib"),
    *("socket", "socketserver", "ssl", "statistics", "string", "subprocess", "tarfile", "tempfile"),
    *("textwrap", "threading", "timeit", "tokenize", "traceback", "typing", "unittest/case"),
    *("unittest/mock", "urllib/parse", "urllib/request", "uuid", "warnings", "weakref", "webbrowser"),
)


@dataclass(frozen=True)
class GeneralText:
    """A passage to be scored: ``text`` given ``prompt``.

    ``prompt`` is the passage's first word, so that every token of ``text`` has something before it, or with
    ``chat`` what a user said. ``source`` is the document; passages of one document are one group.
    """

    domain: str
    source: str
    prompt: str
    text: str
    chat: bool = False

    @property
    def byte_count(self) -> int:
        """Length of the scored part in UTF-8."""
        return len(self.text.encode())


@functools.cache
def general_texts() -> tuple[GeneralText, ...]:
    """Passages of domains ``python-docs`` and ``dataset-descriptions``, the same on every call.

    Each passage has 250 to 450 characters and ends with a sentence or a line; a shorter list of passages
    on another version of Python is possible, an empty one is not.
    """
    return (*_docstrings(), *_descriptions())


def sample_prompts() -> tuple[str, ...]:
    """The fixed prompts on everyday topics that the base model answers."""
    return tuple(list_lines("sample_prompts.txt"))


def own_samples(sample: Sample) -> tuple[GeneralText, ...]:
    """The base model's own answers (domain ``own-samples``), one passage for each prompt it answered.

    ``sample`` must draw at temperature 1 without truncating the distribution, from a fixed seed: the rise in
    bits under the tuned model is then an estimate of the Kullback-Leibler divergence from the base, in the
    chat format and on the base's own ground. Answers that are empty are left out.
    """
    prompts = sample_prompts()
    answers = sample(prompts, SAMPLE_TOKENS)
    passages = []
    for prompt, answer in zip(prompts, answers, strict=True):
        text = _cut(answer.strip())
        if text:
            passages.append(GeneralText("own-samples", f"prompt: {prompt}", prompt, text, chat=True))
    return tuple(passages)


def texts_sha256(texts: Sequence[GeneralText]) -> str:
    """Names a set of texts: bits of two different sets must never be compared."""
    return content_hash(list(texts))


def _docstrings() -> Iterator[GeneralText]:
    library = Path(sysconfig.get_path("stdlib"))
    for module in _MODULES:
        path = library / f"{module}.py"
        if not path.is_file():
            continue
        # The longest docstring with prose at its head; the first of equals.
        best = ("", "", "")
        for name, docstring in _docstrings_of(ast.parse(path.read_bytes())):
            passages = _passages(docstring)
            if passages and len(docstring) > len(best[1]):
                best = (name, docstring, passages[0])
        if best[2]:
            yield _opened("python-docs", f"{module}: {best[0]}", best[2])


def _docstrings_of(module: ast.Module) -> Iterator[tuple[str, str]]:
    # In the order of ast.walk, without the expressions: nothing with a docstring stands in one.
    waiting = deque[ast.AST]([module])
    while waiting:
        node = waiting.popleft()
        waiting.extend(child for child in ast.iter_child_nodes(node) if isinstance(child, _STATEMENTS))
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring:
                yield "module" if isinstance(node, ast.Module) else node.name, docstring


def _descriptions() -> Iterator[GeneralText]:
    folder = resources.files("sklearn.datasets.descr")
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".rst")), key=lambda e: e.name)
    for file in files:
        for text in _passages(file.read_text(encoding="utf-8"))[:_PASSAGES_PER_DESCRIPTION]:
            yield _opened("dataset-descriptions", file.name, text)


def _opened(domain: str, source: str, passage: str) -> GeneralText:
    first_word = passage.split(maxsplit=1)[0]
    return GeneralText(domain, source, first_word, passage[len(first_word) :])


def _passages(document: str) -> list[str]:
    """Runs of neighbouring prose paragraphs, each cut to the bounds; [] where there is no prose."""
    passages: list[str] = []
    run: list[str] = []
    for paragraph in (*re.split(r"\n\s*\n", document), ""):
        if _is_prose(paragraph):
            run.append(paragraph.rstrip())
        elif run:
            rest = textwrap.dedent("\n\n".join(run)).strip()
            while len(rest) >= FEWEST_CHARACTERS and len(passage := _cut(rest)) >= FEWEST_CHARACTERS:
                passages.append(passage)
                rest = rest[len(passage) :].strip()
            run = []
    return passages


def _is_prose(paragraph: str) -> bool:
    plain = sum(character.isalpha() or character.isspace() for character in paragraph)
    return bool(paragraph.strip()) and ">>>" not in paragraph and plain >= _PROSE * len(paragraph)


def _cut(text: str) -> str:
    """At most MOST_CHARACTERS of ``text``, ending where a sentence or a line or at least a word ends."""
    if len(text) <= MOST_CHARACTERS:
        return text
    start = text[: MOST_CHARACTERS + 1]
    for end in (r"[.!?](?=\s)", r"(?=\n)", r"(?=\s)"):
        last = max((match.end() for match in re.finditer(end, start)), default=0)
        if last >= FEWEST_CHARACTERS:
            return start[:last].rstrip()
    return text[:MOST_CHARACTERS].rstrip()
