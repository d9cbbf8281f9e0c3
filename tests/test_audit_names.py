"""Names of people are found by a recogniser where there is one, and unmeasured where there is none."""

import logging
from dataclasses import replace
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from audit_samples import audit_data, clean, found_rows, texts
from tunesmith.data.audit import names
from tunesmith.data.audit.names import check_person_names, name_recogniser
from tunesmith.data.audit.relevance import usual_language

NAMES = ["Alice Walker", "Peter Schmidt", "Maria Lopez"]


def make_model(folder: Path, label: str = "PERSON", others: str = "PRODUCT") -> str:
    """A spaCy model that knows three people by heart, and that cards are no people."""
    import spacy

    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": label, "pattern": name} for name in NAMES])
    ruler.add_patterns([{"label": others, "pattern": [{"LOWER": {"IN": ["card", "payment", "ask"]}}]}])
    nlp.to_disk(folder / "model")
    return str(folder / "model")


def with_names() -> tuple[list[tuple[str, str]], set[int]]:
    """90 rows, of which every ninth names somebody."""
    planted = set(range(0, 90, 9))
    rows = [
        (f"{text} Ask {NAMES[n // 9 % 3]}." if n in planted else text, label)
        for n, (text, label) in enumerate(texts(90))
    ]
    return rows, planted


@pytest.mark.skipif(
    find_spec("presidio_analyzer") is not None,
    reason="the test is about its absence",
)
def test_without_a_recogniser_names_are_unmeasured_and_what_to_install_is_told() -> None:
    result = check_person_names(clean(10))
    assert result.answer == "unmeasured"
    assert result.summary == (
        '10 rows may hold names of people: Presidio is not installed. pip install "tunesmith[pii]", then '
        "python -m spacy download en_core_web_sm."
    )


def test_without_a_model_names_are_unmeasured_and_what_to_install_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("presidio_analyzer")
    result = check_person_names(clean(10), model=str(tmp_path))
    assert result.answer == "unmeasured"
    assert "no spaCy model" in result.summary
    monkeypatch.setattr(names, "entry_points", lambda group: [])
    result = check_person_names(clean(10))
    assert result.answer == "unmeasured"
    assert "no spaCy model. python -m spacy download en_core_web_sm" in result.summary


@pytest.mark.parametrize("label", ["PERSON", "PER", "persName", "PRS", "PS"])
def test_names_that_the_model_knows_are_found(
    label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("presidio_analyzer")
    warnings = StringIO()
    handlers = [logging.StreamHandler(warnings)]
    monkeypatch.setattr(logging.getLogger("presidio-analyzer"), "handlers", handlers)
    dirty, planted = with_names()
    result = check_person_names(audit_data(dirty), model=make_model(tmp_path, label))
    assert found_rows(result) == planted
    assert result.sampled_rows is None
    assert "(3 different names)" in result.findings[0].evidence
    assert all(name not in result.findings[0].evidence for name in NAMES)
    assert warnings.getvalue() == ""


def test_labels_are_not_taken_for_names_and_written_answers_are_looked_at(tmp_path: Path) -> None:
    pytest.importorskip("presidio_analyzer")
    rows = audit_data([(text, NAMES[n % 3]) for n, (text, _) in enumerate(texts(30))])
    model = make_model(tmp_path)
    assert check_person_names(replace(rows, kind="classify"), model).answer == "passed"
    assert found_rows(check_person_names(replace(rows, kind="generate"), model)) == set(range(30))


def test_a_model_that_knows_no_people_is_unmeasured_not_passed(tmp_path: Path) -> None:
    pytest.importorskip("presidio_analyzer")
    dirty, _ = with_names()
    result = check_person_names(audit_data(dirty), model=make_model(tmp_path, label="ORG"))
    assert result.answer == "unmeasured"
    assert "knows no people (ORG, PRODUCT)" in result.summary


@pytest.mark.parametrize(
    ("installed", "language", "told"),
    [
        (["de_core_news_sm", "en_none"], (), "'en_none'"),
        (["de_none", "en_core_web_sm"], ("de",), "'de_none'"),
        (["en_core_web_sm", "xx_none"], ("fr",), "'xx_none'"),
        (["en_core_web_sm"], ("fr",), "(en_core_web_sm) is for fr, which the data is in"),
    ],
)
def test_the_model_is_one_for_the_language_of_the_data(
    installed: list[str], language: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("presidio_analyzer")
    monkeypatch.setattr(
        names, "entry_points", lambda group: [SimpleNamespace(name=name) for name in installed]
    )
    found = name_recogniser(None, lambda: language)
    assert isinstance(found, str)
    assert told in found


def test_the_language_is_that_of_most_inputs() -> None:
    assert usual_language(clean(40)) == ("en",)
    german = [(f"Wann kommt meine neue Karte mit der Post endlich an, bitte? {n}", "a") for n in range(40)]
    assert usual_language(audit_data(german)) == ("de",)
    assert usual_language(audit_data([("?", "a")])) == ()
