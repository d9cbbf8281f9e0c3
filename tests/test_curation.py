"""Repairs touch training rows only, are on record, and come out the same every time."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from bank_samples import audit_data, questions
from tunesmith.data.audit.characters import check_control_characters, check_encoding, check_html
from tunesmith.data.audit.findings import AuditData, CheckResult, Finding, Repair
from tunesmith.data.audit.privacy import check_private_data, check_secrets
from tunesmith.data.curation.apply import (
    REVIEW,
    Repaired,
    apply_plan,
    read_changes,
    write_changes,
)
from tunesmith.data.curation.plan import RepairPlan, plan_text, read_plan
from tunesmith.data.curation.review import (
    ReviewAnswer,
    write_queue,
)
from tunesmith.data.differences import compare
from tunesmith.data.exchange import write_csv, write_jsonl
from tunesmith.data.sources import Source
from tunesmith.data.splits import Split, SplitSpec, split_rows
from tunesmith.data.tables import write_rows
from tunesmith.data.versions import AppliedRepair, freeze
from tunesmith.errors import UserError
from tunesmith.records import Message, Row, SplitName

SPEC = SplitSpec(train=None, validation=60, test=90, seed=1, rows_per_group=None)
ROWS = questions(300)
DATA = audit_data(ROWS)
SPLIT = split_rows(ROWS, SPEC)
TRAIN, TEST = [row.id for row in SPLIT.train], [row.id for row in SPLIT.test]
INDEX = {row.id: number for number, row in enumerate(ROWS)}


def finding(kind: str, ids: list[str], repair: Repair = "drop", target: str | None = None) -> Finding:
    fixed = (target,) * len(ids) if target else None
    rows = tuple(INDEX[row] for row in ids)
    return Finding(kind, "warning", rows, f"{kind} it is", repair, "target" if target else None, fixed)


def results(*findings: Finding) -> list[CheckResult]:
    return [CheckResult("labels", "failed", "some labels are odd", findings)]


def applied(
    repair: Repair, *findings: Finding, answers: dict[str, ReviewAnswer] | None = None, data: AuditData = DATA
) -> Repaired:
    plan = RepairPlan({"labels": {found.kind: repair for found in findings}})
    return apply_plan(SPLIT, data, results(*findings), plan, answers or {})


@pytest.mark.parametrize("repair", ["fix", "drop", "set_aside", "ask", "keep"])
def test_only_training_rows_change_and_others_wait_for_a_person(repair: Repair) -> None:
    odd = [TRAIN[0], TRAIN[1], TEST[0], SPLIT.validation[0].id]
    repaired = applied(repair, finding("odd", odd, target="odd label"))
    assert repaired.split.test == SPLIT.test
    assert repaired.split.validation == SPLIT.validation
    left = {row.id: row for row in repaired.split.train}
    if repair == "fix":
        assert [left[row].target for row in TRAIN[:3]] == ["odd label", "odd label", SPLIT.train[2].target]
        assert len(left) == len(TRAIN)
    else:
        removed = 2 if repair in ("drop", "set_aside") else 0
        assert len(left) == len(TRAIN) - removed
        assert (repaired.set_aside == SPLIT.train[:2]) == (repair == "set_aside")
    changed = {"fix": 2, "drop": 2, "set_aside": 2, "ask": 0, "keep": 0}[repair]
    assert [change.row for change in repaired.changes] == TRAIN[:changed]
    waiting = {"keep": set(), "ask": set(odd)}.get(repair, set(odd[2:]))
    assert {item.row for item in repaired.queue} == waiting
    assert all(item.proposed == "odd label" for item in repaired.queue)


def test_the_account_of_a_repaired_split_adds_up() -> None:
    repaired = applied("drop", finding("odd", TRAIN[:5]))
    (aside,) = [item for item in repaired.split.set_aside if item.reason == "repair plan: drop, labels"]
    assert (aside.rows, aside.groups) == (5, 5)
    assert len(repaired.split.train) + aside.rows == len(SPLIT.train)


def test_a_persons_answer_goes_before_the_plan_and_changes_any_split() -> None:
    answers = {
        TRAIN[0]: ReviewAnswer(TRAIN[0], "keep"),
        TEST[0]: ReviewAnswer(TEST[0], "relabel", "fees" if SPLIT.test[0].target != "fees" else "transfer"),
        TEST[1]: ReviewAnswer(TEST[1], "drop"),
    }
    repaired = applied("drop", finding("odd", [TRAIN[0], TRAIN[1], TEST[0]]), answers=answers)
    assert TRAIN[0] in {row.id for row in repaired.split.train}
    assert len(repaired.split.test) == len(SPLIT.test) - 1
    assert {change.row: change.check for change in repaired.changes} == {
        TRAIN[1]: "labels",
        TEST[0]: REVIEW,
        TEST[1]: REVIEW,
    }
    assert repaired.queue == ()


def test_removal_wins_and_of_two_repairs_of_one_field_the_first_is_applied() -> None:
    first, second = finding("a", TRAIN[:2], target="one"), finding("b", TRAIN[:1], target="two")
    both = [CheckResult("labels", "failed", "", (first,)), CheckResult("formats", "failed", "", (second,))]
    plan = RepairPlan({"labels": {"a": "fix"}, "formats": {"b": "fix"}})
    repaired = apply_plan(SPLIT, DATA, both, plan, {})
    assert {change.after for change in repaired.changes} == {"one"}
    assert repaired.unapplied == ("1 rows: formats: an earlier repair changed the same target",)
    same = [both[0], replace(both[1], findings=(replace(second, fixed=("one",)),))]
    assert apply_plan(SPLIT, DATA, same, plan, {}).unapplied == ()
    plan = RepairPlan({"labels": {"a": "fix"}, "formats": {"b": "drop"}})
    repaired = apply_plan(SPLIT, DATA, both, plan, {})
    assert [(change.row, change.action) for change in repaired.changes] == [
        (TRAIN[0], "drop"),
        (TRAIN[1], "fix"),
    ]


def test_a_repair_that_would_leak_or_contradict_its_group_removes_the_row() -> None:
    leak = replace(finding("text", TRAIN[:1]), repair="fix", field="input", fixed=(SPLIT.test[3].text,))
    repaired = applied("fix", leak)
    assert TRAIN[0] not in {row.id for row in repaired.split.train}
    assert [(change.check, change.action) for change in repaired.changes] == [
        ("labels", "fix"),
        ("leaks", "drop"),
    ]
    twins = replace(
        SPLIT, train=(*SPLIT.train[:1], replace(SPLIT.train[1], group=SPLIT.train[0].group), *SPLIT.train[2:])
    )
    relabel = finding("odd", TRAIN[:1], target="odd label")
    repaired = apply_plan(twins, DATA, results(relabel), RepairPlan({"labels": {"odd": "fix"}}), {})
    assert TRAIN[0] not in {row.id for row in repaired.split.train}
    assert repaired.changes[-1].finding.endswith("than the rest of its group")
    assert not any(row.conflict for row in repaired.split.train)


def test_repaired_texts_go_back_to_the_turns_they_came_from() -> None:
    turns = (
        Message("system", "<b>be brief</b>"),
        Message("user", "hello"),
        Message("assistant", "hi"),
        Message("user", "one<br>two<br>three<br>four"),
    )
    row = replace(SPLIT.train[0], messages=turns)
    split = replace(SPLIT, train=(row, *SPLIT.train[1:]))
    data = replace(DATA, rows=tuple(row if one.id == row.id else one for one in DATA.rows))
    found = check_html(data)
    repaired = apply_plan(split, data, [found], RepairPlan({"HTML": {"HTML": "fix"}}), {})
    contents = [turn.content for turn in repaired.split.train[0].messages]
    assert contents == ["be brief", "hello", "hi", "one\ntwo\nthree\nfour"]
    assert [(change.turn, change.before, change.after) for change in repaired.changes] == [
        (-1, turns[-1].content, contents[-1]),
        (-4, turns[0].content, contents[0]),
    ]
    assert repaired.unapplied == ()


def test_the_rejected_answer_of_a_pair_is_looked_at_and_repaired() -> None:
    row = replace(SPLIT.train[0], rejected="<i>ask</i> anna@example.com")
    split = replace(SPLIT, train=(row, *SPLIT.train[1:]))
    data = replace(DATA, rows=tuple(row if one.id == row.id else one for one in DATA.rows))
    found = [check_private_data(data), check_html(data)]
    assert "1 of 300 (0.33 %) rejected answers hold e-mail addresses" in found[0].findings[0].evidence
    plan = RepairPlan({one.check: {finding.kind: "fix" for finding in one.findings} for one in found})
    repaired = apply_plan(split, data, found, plan, {})
    assert repaired.split.train[0] == replace(row, rejected="ask [EMAIL_1]")
    assert {change.field for change in repaired.changes} == {"rejected"}


def test_private_data_in_kept_columns_is_found_and_taken_out_of_training_rows(tmp_path: Path) -> None:
    kept = {TRAIN[0]: "anna@example.com", TRAIN[1]: "none", TEST[0]: "Anna@example.com"}

    def beside(row: Row) -> Row:
        return replace(row, fields=(("city", "Rome"), ("contact", kept[row.id]))) if row.id in kept else row

    split = replace(SPLIT, train=tuple(map(beside, SPLIT.train)), test=tuple(map(beside, SPLIT.test)))
    data = replace(DATA, rows=tuple(map(beside, DATA.rows)))
    found = check_private_data(data)
    (one,) = found.findings
    assert (found.answer, one.kind) == ("failed", "e-mail addresses in column 'contact'")
    assert set(one.rows) == {INDEX[TRAIN[0]], INDEX[TEST[0]]}
    assert data.rows[one.rows[0]].source in one.evidence
    assert check_secrets(data).findings == ()
    (tmp_path / "plan.yaml").write_text(plan_text("cards", [found], data, by_split(split)))
    assert "anna@" not in (tmp_path / "plan.yaml").read_text()
    repaired = apply_plan(split, data, [found], read_plan(tmp_path / "plan.yaml", [found]), {})
    assert repaired.split.train[0].fields == (("city", "Rome"), ("contact", "[EMAIL_1]"))
    assert repaired.split.train[1:] == split.train[1:]
    assert repaired.split.test == split.test
    assert [item.row for item in repaired.queue] == [TEST[0]]
    write_changes(tmp_path / "changes", repaired.changes)
    (change,) = read_changes(tmp_path / "changes")
    assert (change.field, change.column, change.after) == ("column", "contact", "[EMAIL_1]")
    source = Source(data.rows, (), (), "", "", len(data.rows), ())
    first = freeze(tmp_path / "v", task="t", source=source, split=split, spec=SPEC)
    repair = AppliedRepair(first.manifest.version, "0" * 64, repaired.changes)
    second = freeze(tmp_path / "v", task="t", source=source, split=repaired.split, spec=SPEC, repair=repair)
    (row,) = compare(first, second).rows
    assert (row.what, row.before, row.after) == (
        "changed",
        "contact: anna@example.com",
        "contact: [EMAIL_1]",
    )


def test_repairs_of_one_text_follow_each_other() -> None:
    row = replace(SPLIT.train[0], messages=(Message("user", "<p>it\u200b doesnâ€™t &amp; won\u200bt</p>"),))
    split = replace(SPLIT, train=(row, *SPLIT.train[1:]))
    data = replace(DATA, rows=tuple(row if one.id == row.id else one for one in DATA.rows))
    found = [check_encoding(data), check_control_characters(data), check_html(data)]
    plan = RepairPlan({one.check: {finding.kind: "fix" for finding in one.findings} for one in found})
    repaired = apply_plan(split, data, found, plan, {})
    assert repaired.split.train[0].text == "it doesn’t & wont"
    assert [change.check for change in repaired.changes] == ["encoding", "control characters", "HTML"]
    assert all(one.after == two.before for one, two in pairwise(repaired.changes))
    assert repaired.unapplied == ()


def test_applying_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    odd = finding("odd", [*TRAIN[5:0:-1], TEST[0]], target="odd label")
    files = []
    for name in ("one", "two"):
        repaired = applied("fix", odd)
        write_changes(tmp_path / f"{name}.changes", repaired.changes)
        write_rows(tmp_path / f"{name}.train", repaired.split.train)
        write_queue(tmp_path / f"{name}.queue", repaired.queue, repaired.split.labels, "jsonl")
        files.append([(tmp_path / f"{name}.{part}").read_bytes() for part in ("changes", "train", "queue")])
    assert files[0] == files[1]
    assert tuple(read_changes(tmp_path / "one.changes")) == repaired.changes
    write_changes(tmp_path / "none.changes", ())
    assert read_changes(tmp_path / "none.changes") == []


def test_a_plan_that_leaves_nothing_to_learn_is_refused() -> None:
    with pytest.raises(UserError, match="leaves 0 training rows"):
        applied("drop", finding("odd", TRAIN))


def by_split(split: Split) -> dict[str, SplitName]:
    splits: dict[str, SplitName] = {row.id: "train" for row in split.train}
    return splits | {row.id: "test" for row in split.test}


def test_a_plan_reads_back_as_what_the_checks_propose(tmp_path: Path) -> None:
    found = results(
        finding("odd: #1 'kind'", [TRAIN[0], TEST[0]], "fix", target="no"),
        finding("plain", TRAIN[1:3], "ask"),
    )
    text = plan_text("cards", found, DATA, by_split(SPLIT))
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    plan = read_plan(path, found)
    assert plan.repairs == {"labels": {"odd: #1 'kind'": "fix", "plain": "ask"}}
    assert "2 rows, 1 of them in train" in text
    assert SPLIT.train[0].source in text
    assert SPLIT.test[0].text not in text


def test_what_is_found_several_times_is_one_line_of_the_plan(tmp_path: Path) -> None:
    found = results(
        finding("odd", TRAIN[:2], "fix", target="no"),
        finding("odd", TRAIN[2:4], "fix", target="yes"),
    )
    text = plan_text("cards", found, DATA, by_split(SPLIT))
    assert text.count("    odd: fix") == 1
    assert all(row.source in text for row in SPLIT.train[:4])
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    assert read_plan(path, found).repairs == {"labels": {"odd": "fix"}}


def test_a_plan_shows_what_a_fix_changes_and_quotes_nothing_private() -> None:
    (row,) = (row for row in DATA.rows if row.id == TRAIN[0])
    long = "word " * 30
    told = replace(row, messages=(Message("user", f"{long} write to anna@example.com <b>now</b>"),))
    data = replace(DATA, rows=tuple(told if one.id == row.id else one for one in DATA.rows))
    text = plan_text("cards", [check_html(data)], data, by_split(SPLIT))
    assert "example.com <b>now</b> => …" in text
    text = plan_text("cards", [check_private_data(data)], data, by_split(SPLIT))
    assert f"{row.source}: => …" in text
    assert "to [EMAIL_1] <b>now</b>" in text
    assert "anna" not in text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("repairs: {labels: {odd: drop, odd: keep}}", "repairs.labels.odd stands there twice"),
        ("repairs: {labels: {odd: remove}}", "'remove' is no repair"),
        ("repairs: {labels: {odd: fix}}", "nothing is proposed"),
        ("repairs: {labels: {}}", "does not mention: labels: odd (2 rows)"),
        ("repairs: {labels: drop}", "repairs.labels holds 'drop'"),
        ("repairs: [", "broken YAML"),
        ("- a", "no `repairs:` there"),
    ],
)
def test_a_broken_plan_is_explained(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_plan(path, results(finding("odd", TRAIN[:2])))
    assert told in error.value.what


def test_csv_cells_are_no_formulas_and_jsonl_is_exact(tmp_path: Path) -> None:
    texts = ["=1+1", "+x", "＝x", "@x", "-1", 'plain, with "quotes"\nand lines', "'=quoted"]
    rows = [Row(f"id{n}", f"s:{n}", (Message("user", text),), "=cmd|x") for n, text in enumerate(texts)]
    assert write_csv(tmp_path / "rows.csv", rows) == 4 + len(rows)
    with (tmp_path / "rows.csv").open(newline="") as stream:
        records = list(csv.DictReader(stream))
    assert [record["input"] for record in records] == [f"'{text}" for text in texts[:4]] + texts[4:]
    assert not any(cell.startswith(tuple("=+＝@\t")) for record in records for cell in record.values())
    write_jsonl(tmp_path / "rows.jsonl", rows)
    read = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().split("\n") if line]
    assert [record["messages"][0]["content"] for record in read] == texts
    pair = replace(rows[0], rejected="=no", fields=(("city", "Oslo"),))
    write_jsonl(tmp_path / "pairs.jsonl", [pair])
    read = json.loads((tmp_path / "pairs.jsonl").read_text())
    assert (read["rejected"], read["fields"]) == ("=no", {"city": "Oslo"})
    write_csv(tmp_path / "pairs.csv", [pair, rows[1]])
    with (tmp_path / "pairs.csv").open(newline="") as stream:
        assert [record["rejected"] for record in csv.DictReader(stream)] == ["'=no", ""]


def test_yaml_of_a_plan_survives_odd_rows(tmp_path: Path) -> None:
    rows = [replace(row, messages=(Message("user", "a\n# b: [\x07 '\""),)) for row in ROWS[:3]]
    data = audit_data(rows)
    odd = Finding("odd", "error", (0, 1, 2), "line\nbreak: {", "drop")
    text = plan_text(
        "x", [CheckResult("labels", "failed", "a\nb", (odd,))], data, {r.id: "train" for r in rows}
    )
    assert yaml.safe_load(text) == {"repairs": {"labels": {"odd": "drop"}}}
