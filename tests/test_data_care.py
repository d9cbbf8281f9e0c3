"""Results before and after people changed the test, and the audit in the report."""

from __future__ import annotations

import importlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from bank_samples import questions
from tiny import link_base
from tunesmith.cli.data import register
from tunesmith.data.audit import checks
from tunesmith.data.curation.originals import before_review, changed_by_review, dropped_by_review
from tunesmith.data.curation.review import ReviewAnswer, answers_beside, write_answers
from tunesmith.data.splits import split_rows
from tunesmith.data.versions import freeze, read_repairs
from tunesmith.files import read_record
from tunesmith.pipeline import Run, run_stages
from tunesmith.stages.audit import audit
from tunesmith.stages.curate import write_plan
from tunesmith.stages.data import make_dataset, read_grouped
from tunesmith.stages.session import Session
from tunesmith.stages.verdict import SealedAnswers
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

TASK = """\
name: bank
kind: classify
instruction: Name the topic.
data: {data: }
split: {{train: 150, validation: 50, test: 100, seed: 1}}
goal: {{gain: 0.02}}
base: {base}
opponents: {{classical: true, zero_shot: false, few_shot: []}}
train: {{rank: 2, alpha: 4, epochs: 1, validations_per_epoch: 1, batch_size: 32}}
guards: {{robustness: {{margin: 0.1, rows: 0}}}}
"""


def session_of(folder: Path, data: str, base: Path) -> Session:
    text = TASK.replace("{data: }", data).format(base=base)
    (folder / "task.yaml").write_text(text)
    task = load_task(folder / "task.yaml")
    session = Session(
        task, Workspace(folder / "runs").task("bank"), Console(file=io.StringIO()), folder / "cache"
    )
    session.folder.path.mkdir(parents=True, exist_ok=True)
    (session.folder.path / "task.yaml").write_text(text)
    return session


@pytest.fixture(scope="module")
def reviewed(
    general_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Session, Run, dict[str, str], list[str]]:
    """A finished run whose test people changed: what they relabelled (id -> old label) and dropped."""
    folder = tmp_path_factory.mktemp("reviewed")
    records = [{"text": row.text, "label": row.target} for row in questions(320)]
    records += records[:5]  # copies, for the audit to find
    (folder / "bank.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    data = "{{path: bank.jsonl, input: text, target: label, plan: repair-plan.yaml}}"
    link_base(general_base, folder)
    session = session_of(folder, data, folder / "base")
    read = read_grouped(session)
    test = split_rows(read.rows, read.spec).test
    relabelled = {row.id: row.target for row in test[:6]}
    dropped = [row.id for row in test[6:9]]
    answers = [
        *(
            ReviewAnswer(row, "relabel", "fees" if old != "fees" else "transfer")
            for row, old in relabelled.items()
        ),
        *(ReviewAnswer(row, "drop") for row in dropped),
    ]
    plan = folder / "repair-plan.yaml"
    with pytest.MonkeyPatch.context() as patch:
        few = {name: checks.CHECKS[name] for name in ("encoding", "duplicates", "age")}
        patch.setattr(checks, "CHECKS", few)
        write_plan(session, plan)
        write_answers(answers_beside(plan), answers)
        return session, run_stages(session, "report"), relabelled, dropped


def test_results_are_told_with_and_without_peoples_changes_to_the_test(
    reviewed: tuple[Session, Run, dict[str, str], list[str]],
) -> None:
    session, run, relabelled, dropped = reviewed
    assert run.summary is not None
    read = read_grouped(session)
    originals = {row.id: row for row in split_rows(read.rows, read.spec).test}
    now = sorted(set(originals) - set(dropped))
    for card in run.summary.test_scorecards:
        (path,) = session.folder.sealed.glob(f"*-{card.candidate.id[:16]}.json")
        given = dict(zip([*now, *sorted(dropped)], read_record(path, SealedAnswers).answers, strict=True))
        right = [given[row] == originals[row].target for row in originals]
        before = card.metrics_before_review["accuracy"]
        assert before.value == pytest.approx(sum(right) / len(right))
        assert (before.rows, card.metrics["accuracy"].rows) == (len(originals), len(originals) - len(dropped))
        assert before.low <= before.value <= before.high
        kept = [given[row] == originals[row].target for row in now if row not in relabelled]
        wrong = sum(
            given[row] == ("fees" if old != "fees" else "transfer") for row, old in relabelled.items()
        )
        assert card.metrics["accuracy"].value == pytest.approx((sum(kept) + wrong) / len(now))
    page = session.folder.report.read_text(encoding="utf-8")
    assert "With and without people’s changes to the test" in page


def test_the_report_tells_the_audit_and_the_repairs_and_shows_training_rows_only(
    reviewed: tuple[Session, Run, dict[str, str], list[str]],
) -> None:
    session, run, _, _ = reviewed
    assert run.summary is not None
    care = run.summary.data_care
    assert care is not None
    answers = {check.check: check.answer for check in care.checks}
    assert answers["duplicates"] == "failed"
    assert answers["age"] == "unmeasured"
    assert {(one.split, one.check, one.action): one.rows for one in care.repairs}[
        "test", "review", "drop"
    ] == 3
    read = read_grouped(session)
    held_out = {row.source for row in (*split_rows(read.rows, read.spec).test,)}
    told = [source for check in care.checks for one in check.findings for source, _ in one.examples]
    assert held_out.isdisjoint(told)
    page = session.folder.report.read_text(encoding="utf-8")
    assert "What the audit asked of the data" in page
    assert "a person’s answer" in page
    story = run.summary.version_story
    assert story is not None
    assert story.since is not None
    assert (story.since.version, story.since.how) == (
        run.dataset.manifest.parents[0],
        "the same data before its repair",
    )
    assert story.since.changes[0].why.startswith("duplicates: copies")
    assert held_out.isdisjoint(row.source for row in story.masked)
    for words in ("Since the last version", "Rows as the model sees them", "tunesmith data export bank"):
        assert words in page


def test_rows_come_back_as_they_were_before_review(tmp_path: Path) -> None:
    from test_curation import DATA, SPEC, SPLIT, TEST, TRAIN, applied
    from tunesmith.data.sources import Source
    from tunesmith.data.versions import AppliedRepair

    answers = {
        TEST[0]: ReviewAnswer(TEST[0], "relabel", "another label"),
        TEST[1]: ReviewAnswer(TEST[1], "drop"),
        TRAIN[0]: ReviewAnswer(TRAIN[0], "drop"),
    }
    repaired = applied("drop", answers=answers)
    source = Source(DATA.rows, (), (), "", "", len(DATA.rows), ())
    repair = AppliedRepair("parent", "0" * 64, repaired.changes)
    frozen = freeze(tmp_path, task="t", source=source, split=repaired.split, spec=SPEC, repair=repair)
    changes = read_repairs(frozen)
    back = [*before_review(repaired.split.test, changes), *dropped_by_review(changes, "test")]
    assert sorted(back, key=lambda row: row.id) == list(SPLIT.test)
    assert changed_by_review(changes, "test") == 2
    assert changed_by_review(changes, "validation") == 0
    assert dropped_by_review(changes, "test", below="") == ()


def test_an_audit_that_was_not_run_is_not_told(tmp_path: Path) -> None:
    from tunesmith.stages.data_care import care_of_data

    records = [{"text": row.text, "label": row.target} for row in questions(320)]
    (tmp_path / "bank.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    session = session_of(tmp_path, "{{path: bank.jsonl, input: text, target: label}}", tmp_path / "none")
    dataset, _ = make_dataset(session)
    assert care_of_data(session, dataset) is None
    audit(session, only=["encoding", "age"])
    care = care_of_data(session, dataset)
    assert care is not None
    assert [(one.check, one.answer) for one in care.checks] == [("encoding", "passed"), ("age", "unmeasured")]
    assert (care.plan, care.repairs) == (None, ())


def test_every_verb_is_documented_as_a_python_function() -> None:
    table = (
        Path(__file__)
        .parent.parent.joinpath("docs/data.md")
        .read_text(encoding="utf-8")
        .split("## In Python")[1]
    )
    lines = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    told = {verb for line in lines for verb in re.findall(r"`(?:data )?(\w+)`", line[1])}
    assert told == {command.name or command.callback.__name__ for command in _data_commands()}
    for line in lines:
        first, *others = re.findall(r"`([\w.]+)(?:\([^`]*\))?`", line[2])
        module = importlib.import_module(first.rpartition(".")[0])
        assert all(callable(getattr(module, name)) for name in (first.rpartition(".")[2], *others)), line


def _data_commands() -> list[Any]:
    app = typer.Typer()
    register(app)
    (group,) = app.registered_groups
    assert group.typer_instance is not None
    return group.typer_instance.registered_commands
