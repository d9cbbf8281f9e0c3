"""Names of people, where a recogniser for them is installed (Presidio with a spaCy model)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points, version
from importlib.util import find_spec
from typing import Any

from tunesmith.data.audit.findings import AuditData, CheckResult, Finding, answered
from tunesmith.data.audit.relevance import usual_language
from tunesmith.data.audit.texts import count, share
from tunesmith.task.kinds import LABELLED

# A neural recogniser needs some milliseconds a row.
SAMPLED_ROWS = 20_000
LONGEST_TEXT = 100_000
SURE = 0.5
# How spaCy's own models call a person: most of them, Polish, Swedish, Korean.
PERSON_LABELS = ("PERSON", "PER", "persName", "PRS", "PS")
INSTALL = 'pip install "tunesmith[pii]"'
INSTALL_MODEL = "python -m spacy download"
ENGLISH_MODEL = "en_core_web_sm"

_CHECK = "names of people"


@dataclass(frozen=True)
class Recogniser:
    """``find`` gives the names in a text; ``name`` is the model's, with its version."""

    name: str
    find: Callable[[str], tuple[str, ...]]


def check_person_names(data: AuditData, model: str | None = None) -> CheckResult:
    """Rows that name people, by Presidio (Microsoft) over a spaCy model.

    ``model`` is an installed spaCy model or a folder of one; None takes an installed one for the language
    that the task's audit names, or else that most inputs are in. Nothing is downloaded. Without Presidio or
    such a model the check is unmeasured, with the line that installs what is missing: names cannot be told
    from other words by rules. Of more than 20,000 rows as many are looked at, evenly spaced, and of each text
    the first 100,000 characters; labels are not looked at. The recogniser misses names and takes other words
    for names, so a person decides about them.
    """
    rows = len(data.rows)
    found = name_recogniser(model, lambda: data.asked.languages or usual_language(data))
    if isinstance(found, str):
        return CheckResult(_CHECK, "unmeasured", f"{count(rows, 'row')} may hold names of people: {found}.")
    step = -(-rows // SAMPLED_ROWS) if rows else 1
    looked_at = range(0, rows, step)
    named = []
    names: set[str] = set()
    cut = 0
    for index in looked_at:
        row = data.rows[index]
        texts = (row.text, *(() if data.kind in LABELLED else (row.target, row.rejected or "")))
        cut += any(len(text) > LONGEST_TEXT for text in texts)
        here = [name for text in texts if text for name in found.find(text[:LONGEST_TEXT])]
        if here:
            named.append(index)
            names.update(here)
    summary = f"{share(len(named), len(looked_at))} rows name people, by {found.name}"
    sampled = len(looked_at) if step > 1 else None
    summary += "" if sampled is None else f" (a sample of {sampled:,} of {rows:,} rows, evenly spaced)"
    summary += f"; of {count(cut, 'row')} only the first {LONGEST_TEXT:,} characters" if cut else ""
    if not named:
        return answered(_CHECK, summary, [], sampled)
    evidence = f"{summary} ({len(names):,} different names)"
    return answered(_CHECK, summary, [Finding(_CHECK, "warning", tuple(named), evidence, "ask")], sampled)


def recognisers() -> tuple[str, ...]:
    """What recognisers are installed: an answer without one is no answer for later."""
    if find_spec("presidio_analyzer") is None:
        return ()
    models = (f"{one.name} {one.dist.version if one.dist else ''}" for one in _installed())
    return (f"presidio {version('presidio-analyzer')}", *sorted(models))


def name_recogniser(model: str | None, languages: Callable[[], Sequence[str]]) -> Recogniser | str:
    """The recogniser of ``model``, or else of an installed one for one of ``languages`` (ISO 639-1).

    In place of it, why there is none and how to get one. A model for many languages (``xx``) will do where
    there is none of the language; where ``languages`` are not known, English comes first.
    """
    if find_spec("presidio_analyzer") is None:
        return f"Presidio is not installed. {INSTALL}, then {INSTALL_MODEL} {ENGLISH_MODEL}"
    chosen, missing = (model, "") if model else _model_for(languages())
    if chosen is None:
        return missing
    import spacy

    try:
        nlp = spacy.load(chosen)
    except OSError:
        return f"there is no spaCy model '{chosen}'. {INSTALL_MODEL} {ENGLISH_MODEL} installs one for English"
    labels = {
        label
        for pipe, of_pipe in nlp.pipe_labels.items()
        if "doc.ents" in nlp.get_pipe_meta(pipe).assigns
        for label in of_pipe
    }
    if not labels.intersection(PERSON_LABELS):
        return (
            f"the spaCy model '{chosen}' knows no people ({', '.join(sorted(labels)) or 'no entities'}). "
            f"{INSTALL_MODEL} {ENGLISH_MODEL} installs one for English that does"
        )
    return Recogniser(f"{nlp.lang}_{nlp.meta['name']} {nlp.meta['version']}", _finder(nlp, chosen, labels))


def _installed() -> list[Any]:
    return sorted(entry_points(group="spacy_models"), key=lambda one: one.name)


def _model_for(languages: Sequence[str]) -> tuple[str | None, str]:
    """An installed model, or why there is none. Their names begin with the language: ``en_core_web_sm``."""
    names: list[str] = [one.name for one in _installed()]
    for language in (*languages, "xx") if languages else ("en", "xx", ""):
        for name in names:
            if name.startswith(f"{language}_" if language else ""):
                return name, ""
    english = "en" in languages or not languages
    install = f"{INSTALL_MODEL} {ENGLISH_MODEL}" if english else f"{INSTALL_MODEL} {languages[0]}_…"
    if not names:
        return None, f"Presidio is installed, but no spaCy model. {install}"
    return None, (
        f"none of the spaCy models ({', '.join(names)}) is for {' or '.join(languages)}, which the data is "
        f"in. {install}, or say audit.languages"
    )


def _finder(nlp: Any, chosen: str, labels: set[str]) -> Callable[[str], tuple[str, ...]]:
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
    from presidio_analyzer.predefined_recognizers import SpacyRecognizer

    language = nlp.lang
    people = NerModelConfiguration(
        model_to_presidio_entity_mapping=dict.fromkeys(PERSON_LABELS, "PERSON"),
        # Presidio warns of each single entity that it neither maps nor ignores.
        labels_to_ignore=sorted(labels.difference(PERSON_LABELS)),
    )
    engine = SpacyNlpEngine([{"lang_code": language, "model_name": chosen}], people)
    # A model that is loaded already: Presidio would download one that it does not find.
    engine.nlp = {language: nlp}
    registry = RecognizerRegistry(supported_languages=[language])
    registry.add_recognizer(SpacyRecognizer(supported_language=language, supported_entities=["PERSON"]))
    analyser = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[language])

    @lru_cache(4096)  # one context may have many questions
    def names_in(text: str) -> tuple[str, ...]:
        results = analyser.analyze(text=text, language=language, entities=["PERSON"], score_threshold=SURE)
        return tuple(text[result.start : result.end] for result in results)

    return names_in
