"""Names of people, where a recogniser for them is installed (Presidio with a spaCy model)."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from importlib.util import find_spec

from tunesmith.data.audit.findings import AuditData, CheckResult, Finding, answered
from tunesmith.data.audit.texts import count, share

# A neural recogniser needs some milliseconds a row.
SAMPLED_ROWS = 20_000
LONGEST_TEXT = 100_000
SURE = 0.5

_CHECK = "names of people"


def check_person_names(data: AuditData, model: str | None = None) -> CheckResult:
    """Rows that name people, by Presidio (Microsoft) over a spaCy model.

    ``model`` is an installed spaCy model or a folder of one; None takes the first that is installed. Nothing
    is downloaded. Unmeasured without Presidio or a model: names cannot be told from other words by rules. Of
    more than 20,000 rows as many are looked at, evenly spaced. The recogniser misses names and takes other
    words for names, so a person decides about them.
    """
    rows = len(data.rows)
    found = name_recogniser(model)
    if isinstance(found, str):
        return CheckResult(_CHECK, "unmeasured", f"{found}; {count(rows, 'row')} may hold names of people.")
    step = -(-rows // SAMPLED_ROWS) if rows else 1
    looked_at = range(0, rows, step)
    named = []
    names: set[str] = set()
    for index in looked_at:
        row = data.rows[index]
        here = [
            name for text in (row.text, row.target, row.rejected or "") for name in found(text[:LONGEST_TEXT])
        ]
        if here:
            named.append(index)
            names.update(here)
    summary = f"{share(len(named), len(looked_at))} rows name people"
    sampled = len(looked_at) if step > 1 else None
    summary += "" if sampled is None else f" (a sample of {sampled:,} of {rows:,} rows, evenly spaced)"
    if not named:
        return answered(_CHECK, summary, [], sampled)
    evidence = f"{summary} ({len(names):,} different names)"
    return answered(_CHECK, summary, [Finding(_CHECK, "warning", tuple(named), evidence, "ask")], sampled)


def recognisers() -> tuple[str, ...]:
    """What recognisers are installed: an answer without one is no answer for later."""
    if find_spec("presidio_analyzer") is None:
        return ()
    return ("presidio", *sorted(entry_points(group="spacy_models").names))


def name_recogniser(model: str | None) -> Callable[[str], list[str]] | str:
    """From a text to the names in it; or why there is no recogniser."""
    if find_spec("presidio_analyzer") is None:
        return "Presidio is not installed"
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine
    from presidio_analyzer.predefined_recognizers import SpacyRecognizer

    chosen = model or next(iter(sorted(spacy.util.get_installed_models())), None)
    if chosen is None:
        return "Presidio is installed, but no spaCy model"
    try:
        nlp = spacy.load(chosen)
    except OSError:
        return f"There is no spaCy model '{chosen}'"
    # A model that is loaded already: Presidio would download one that it does not find.
    language = nlp.lang
    engine = SpacyNlpEngine(models=[{"lang_code": language, "model_name": chosen}])
    engine.nlp = {language: nlp}
    registry = RecognizerRegistry(supported_languages=[language])
    registry.add_recognizer(SpacyRecognizer(supported_language=language, supported_entities=["PERSON"]))
    analyser = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[language])

    def names_in(text: str) -> list[str]:
        results = analyser.analyze(text=text, language=language, entities=["PERSON"], score_threshold=SURE)
        return [text[result.start : result.end] for result in results]

    return names_in
