"""The audit of tasks that write texts, and the first task file for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from audit_samples import audit_data, texts
from tunesmith.cli import main
from tunesmith.data.audit.checks import run_check
from tunesmith.data.audit.duplicates import check_duplicates
from tunesmith.data.audit.findings import AuditData, CheckResult
from tunesmith.data.curation.review import QueueItem, write_queue
from tunesmith.task import load_task
from tunesmith.task.kinds import KINDS, LABELLED, Kind

INPUTS = [text for text, _ in texts(60)]


def several_targets(kind: Kind) -> AuditData:
    """60 inputs with two targets each; one row is there twice."""
    pairs = [(text, f"answer {n} of {place}") for place, text in enumerate(INPUTS) for n in range(2)]
    return replace(audit_data([*pairs, pairs[0]]), kind=kind)


def kinds_found(result: CheckResult) -> dict[str, int]:
    return {found.kind: len(found.rows) for found in result.findings if found.kind != "near-duplicates"}


@pytest.mark.parametrize("kind", ["generate", "summarise", "answer", "chat"])
def test_several_targets_of_one_input_are_references_and_copies_are_still_found(kind: Kind) -> None:
    result = check_duplicates(several_targets(kind))
    assert kinds_found(result) == {"several references": 121, "copies": 1}
    assert "60 inputs with several references" in result.summary
    single = replace(audit_data([(text, text) for text in INPUTS]), kind=kind)
    assert check_duplicates(single).answer == "passed"


@pytest.mark.parametrize("kind", ["classify", "extract"])
def test_several_labels_or_fields_of_one_input_are_a_contradiction(kind: Kind) -> None:
    result = check_duplicates(several_targets(kind))
    assert kinds_found(result)["same input, different targets"] == 121
    assert result.answer == "failed"


def test_near_duplicates_contradict_each_other_in_labels_only() -> None:
    pairs = [(text + end, end) for text in INPUTS for end in (" a", " b")]
    found = {kind: kinds_found(check_duplicates(replace(audit_data(pairs), kind=kind))) for kind in KINDS}
    for kind in LABELLED:
        assert "near-duplicates, different targets" in found[kind]
    assert all(not found[kind] for kind in KINDS if kind not in LABELLED)


def test_what_is_a_property_of_labels_is_asked_of_labels_only() -> None:
    labelled = audit_data(texts(120))
    for kind in KINDS:
        for name in ("label spelling", "labels", "label rates", "label drift", "size"):
            if kind == "classify" and name in ("labels", "size"):
                continue  # slow, and asked in tests of their own
            result, ended = run_check(name, replace(labelled, kind=kind))
            assert ended
            assert ("not asked of kind" in result.summary) == (kind != "classify")
            assert kind == "classify" or result.answer == "unmeasured"


def test_a_sentence_that_texts_from_attributes_share_is_no_boilerplate() -> None:
    ending = " Its customer rating is three out of five."
    pairs = [(text, f"So {text[3:]}{'' if n % 4 else ending}") for n, (text, _) in enumerate(texts(200))]
    answers = {kind: run_check("boilerplate", replace(audit_data(pairs), kind=kind))[0] for kind in KINDS}
    assert answers["generate"].answer == "passed"
    assert answers["summarise"].answer == answers["chat"].answer == "failed"


def test_an_answer_may_stand_in_its_passage_and_a_label_may_not() -> None:
    pairs = [
        (f"{text} The answer is number {n} of all.", f"number {n} of all") for n, text in enumerate(INPUTS)
    ]
    given_away = [run_check("leaks", replace(audit_data(pairs), kind=kind))[0].answer for kind in KINDS]
    assert dict(zip(KINDS, given_away, strict=True)) == {
        "classify": "failed",
        "tag": "failed",
        "extract": "unmeasured",
        "generate": "failed",
        "summarise": "failed",
        "answer": "unmeasured",
        "chat": "failed",
    }


def test_a_text_is_reviewed_by_typing_it(tmp_path: Path) -> None:
    item = QueueItem("r1", "a:1", "train", "name[Bibimbap]", "Bibimbap is a pub.", None, ("a reason",))
    write_queue(tmp_path / "queue.jsonl", [item], (), "prodigy")
    task = json.loads((tmp_path / "queue.jsonl").read_text())
    assert "options" not in task
    assert task["user_input"] == "Bibimbap is a pub."
    write_queue(tmp_path / "queue.json", [item], (), "label-studio")
    assert "<TextArea" in (tmp_path / "queue.config.xml").read_text()


PLACES = [f"place {n}" for n in range(40)]
PROSE = "It was a long day and so much was said that nobody remembered all of it later . " * 8
FILES: dict[str, list[dict[str, object]]] = {
    "classify": [{"text": f"{place} is shut", "label": "ab"[n % 2]} for n, place in enumerate(PLACES)],
    "tag": [{"text": f"{place} is shut", "labels": ["a", "b"][n % 3 :]} for n, place in enumerate(PLACES)],
    "extract": [
        {"text": f"at {place} of {n}", "target": json.dumps({"place": place, "number": n})}
        for n, place in enumerate(PLACES)
    ],
    "generate": [
        {"mr": f"name[{place}], eatType[pub]", "ref": f"{place} is a pub in {n} ways, all said to be good."}
        for n, place in enumerate(PLACES)
    ],
    "summarise": [
        {"text": f"{place}: {PROSE}", "summary": f"At {place} a long day ended and little was kept of it."}
        for place in PLACES
    ],
    "answer": [
        {
            "instruction": f"{place}. {PROSE}",
            "input": f"What was {place}?",
            "output": f"It was {place} of old.",
        }
        for place in PLACES
    ],
    "chat": [
        {
            "messages": [
                {"role": "user", "content": f"Where is {place}?"},
                {"role": "assistant", "content": f"You will find {place} behind the church, on the left."},
            ]
        }
        for place in PLACES
    ],
}


@pytest.mark.parametrize("kind", KINDS)
def test_new_guesses_the_kind_from_the_data(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("".join(json.dumps(record) + "\n" for record in FILES[kind]))
    assert main(["new", "mine", "--data", "rows.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == kind
    task = load_task(Path("mine/task.yaml"))
    assert task.kind == kind
    assert ("number, place" in task.instruction) == (kind == "extract")
    assert (task.data.near_duplicate_similarity == 1.0) == (kind == "generate")


def test_new_takes_the_kind_that_is_asked_for_and_the_column_that_holds_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    records = [{**record, "topic": "ab"[n % 2]} for n, record in enumerate(FILES["summarise"])]
    Path("rows.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main(["new", "mine", "--data", "rows.jsonl", "--kind", "summarise", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["kind"], done["input"], done["target"]) == ("summarise", "text", "summary")
    assert main(["new", "labels", "--data", "rows.jsonl", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["kind"], done["target"]) == ("classify", "topic")
    assert main(["new", "other", "--data", "rows.jsonl", "--kind", "write"]) == 2
    assert "use one of classify, tag, extract" in capsys.readouterr().err
