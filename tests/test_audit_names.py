"""Names of people are found by a recogniser where there is one, and unmeasured where there is none."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from audit_samples import audit_data, clean, found_rows, texts
from tunesmith.data.audit.names import check_person_names

NAMES = ["Alice Walker", "Peter Schmidt", "Maria Lopez"]


@pytest.mark.skipif(
    find_spec("presidio_analyzer") is not None,
    reason="the test is about its absence",
)
def test_without_a_recogniser_names_are_unmeasured() -> None:
    result = check_person_names(clean(10))
    assert result.answer == "unmeasured"
    assert result.summary == "Presidio is not installed; 10 rows may hold names of people."


def test_without_a_model_names_are_unmeasured(tmp_path: Path) -> None:
    pytest.importorskip("presidio_analyzer")
    result = check_person_names(clean(10), model=str(tmp_path))
    assert result.answer == "unmeasured"
    assert "no spaCy model" in result.summary


def test_names_that_the_model_knows_are_found(tmp_path: Path) -> None:
    pytest.importorskip("presidio_analyzer")
    import spacy

    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PERSON", "pattern": name} for name in NAMES])
    nlp.to_disk(tmp_path / "model")
    pairs = texts(90)
    planted = set(range(0, 90, 9))
    dirty = [
        (f"{text} Ask {NAMES[n % 3]}." if n in planted else text, label)
        for n, (text, label) in enumerate(pairs)
    ]
    result = check_person_names(audit_data(dirty), model=str(tmp_path / "model"))
    assert found_rows(result) == planted
    assert result.sampled_rows is None
    assert all(name not in result.findings[0].evidence for name in NAMES)
