"""The page of the examples tells what their runs decided, and keeps no text of a row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from examples_page import KeptRun, kept, page
from report_samples import summary
from tunesmith.files import read_record, write_json


def test_every_candidate_gain_and_decision_of_a_kept_run_is_on_the_page(tmp_path: Path) -> None:
    run = replace(summary("DON'T"), machine={"processor": "a processor"})
    write_json(tmp_path / "run.json", kept(run, "alone", "abc1234"))
    text = page([read_record(tmp_path / "run.json", KeptRun)])
    assert "1 run, 1 × DON'T" in text
    assert "**DON'T**" in text
    assert run.verdict.sentence in text
    for card in (run.tuned_validation, *run.opponents):
        assert f"| {card.candidate.name} |" in text


def test_what_is_kept_holds_no_text_of_a_row(tmp_path: Path) -> None:
    run = summary()
    write_json(tmp_path / "run.json", kept(run, "alone", "abc1234"))
    text = (tmp_path / "run.json").read_text(encoding="utf-8")
    texts = [duel.text for duel in (*run.wins, *run.losses)]
    assert texts
    assert not [row for row in texts if row in text]
