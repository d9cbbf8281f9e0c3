"""A test that a person was shown: earlier verdicts stay, and no work is done for another one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from toy_task import toy_session
from tunesmith.data.sealed import SHOWN, open_test
from tunesmith.errors import UserError
from tunesmith.pipeline import Run, run_stages
from tunesmith.stages.session import Session


def spend(session: Session, run: Run) -> None:
    open_test(run.dataset, session.folder.ledger, "seen", [SHOWN])


def test_the_verdict_reached_before_stays_and_no_other_model_is_trained_for_one(
    home: Path, finished: tuple[Session, Run], tmp_path: Path
) -> None:
    original, run = finished
    runs = tmp_path / "runs"
    shutil.copytree(original.folder.path.parent, runs)
    session = toy_session(home, runs)
    spend(session, run)
    assert run_stages(session, "verdict").verdict == run.verdict
    other = toy_session(home, runs, seed=7)
    trained = sorted(path.name for path in other.folder.path.glob("stages/train-*"))
    with pytest.raises(UserError, match="no verdict may use it any more"):
        run_stages(other, "report")
    assert sorted(path.name for path in other.folder.path.glob("stages/train-*")) == trained


def test_nothing_is_measured_for_a_test_that_was_shown_before_any_verdict(home: Path, tmp_path: Path) -> None:
    session = toy_session(home, tmp_path, seed=8)
    spend(session, run_stages(session, "data"))
    with pytest.raises(UserError, match="shown to a person") as told:
        run_stages(session, "verdict")
    assert told.value.exit_code == 3
    assert not list(session.folder.path.glob("stages/plan-*"))
    # What needs no test is still made.
    assert run_stages(session, "plan").plan is not None
