"""Runs with opponents beyond the base: they become finalists, and cost what is said."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from endpoint_server import KEY, KEY_ENV, Sent, serving
from tiny import load_tiny, make_tiny_base, toy_rows
from tunesmith.candidates.answers import Answers
from tunesmith.candidates.tuned_prompts import passages_of
from tunesmith.data.sealed import open_test
from tunesmith.data.versions import read_split
from tunesmith.errors import UserError
from tunesmith.models.size import count_parameters
from tunesmith.pipeline import run_stages
from tunesmith.progress import silent
from tunesmith.stages import bases
from tunesmith.stages.answerers import answerer
from tunesmith.stages.bases import check_memory, other_bases
from tunesmith.stages.session import Session
from tunesmith.stages.verdict import sealed_answers
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

NO_TRAINING: Any = SimpleNamespace(
    training=None, adapter_folder=""
)  # what opponents answer does not depend on it
LABELS = ("billing", "delivery", "refund", "greeting")
TASK = """\
name: toy
kind: classify
instruction: Name the team.
data: {{path: rows.jsonl, input: text, target: label}}
split: {{train: 120, validation: 60, test: 80, seed: 1}}
goal: {{gain: 0.02}}
base: base
opponents:
  classical: false
  zero_shot: false
  {opponents}
train: {{rank: 4, alpha: 8, learning_rate: 0.001, epochs: 1, batch_size: 16}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    make_tiny_base(folder / "base")
    rows = [{"text": row.text, "label": row.target} for row in toy_rows(260, LABELS, 0)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def session_of(home: Path, opponents: str) -> tuple[Session, io.StringIO]:
    path = home / "task.yaml"
    path.write_text(TASK.format(opponents=opponents), encoding="utf-8")
    task, told = load_task(path), io.StringIO()
    folder = Workspace(home / "runs").task(task.name)
    folder.keep_task_file(path)
    return Session(task, folder, Console(file=told, width=200), home / "cache"), told


def test_an_endpoint_becomes_finalist_and_its_test_answers_are_sealed_paid_once_and_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)
    right = {row.text: row.target for row in toy_rows(260, LABELS, 0)}
    down = True

    def reply(body: dict[str, Any], number: int) -> Sent:
        text = body["messages"][-1]["content"]
        if down and number == 80:
            return Sent(400, raw=b"out of order")
        # Right, but every eighth time in words that are no label.
        return Sent(text=f"It is {right[text]}." if len(text) % 8 == 0 else right[text].upper())

    with serving(reply) as served:
        settings = served.endpoint(requests_at_once=1, price_in=100.0, price_out=0.0).model_dump_json()
        session, told = session_of(home, f"few_shot: []\n  endpoints: [{settings}]")
        run = run_stages(session, "opponents")
        assert run.plan is not None
        assert run.opponents is not None
        assert len(served.requests) == 60
        (finalist,) = run.opponents.finalist_candidates()
        rows, _ = open_test(run.dataset, session.folder.ledger, "contest", [finalist.name])
        known = (session, run.dataset, run.plan.plan, NO_TRAINING, finalist, rows)
        with pytest.raises(UserError, match="out of order"):
            sealed_answers(*known)
        down = False
        sealed = sealed_answers(*known)
        assert sealed_answers(*known) == sealed
        assert len(served.requests) == 60 + 80 + 1
    card = next(card for card in run.opponents.scorecards if card.candidate == finalist)
    assert card.candidate.kind == "endpoint"
    unparsed = card.metrics["unparsed"]
    assert card.metrics["accuracy"].value == pytest.approx(1 - unparsed.value)
    assert 0 < unparsed.value < 0.3
    assert sealed.cost.spend == pytest.approx(80 * 0.001)
    assert re.search(r"local, zero-shot \(finalist\), 0\.0600 spent, .* no label", told.getvalue())
    folder = session.folder.path
    assert len((folder / "sealed" / "endpoint-local.jsonl").read_text(encoding="utf-8").splitlines()) == 80
    assert len((folder / "endpoints" / "endpoint-local.jsonl").read_text().splitlines()) == 60
    written = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in content for content in written)
    assert KEY not in told.getvalue()


def test_a_larger_base_is_prompted_beside_the_own_one_and_answers_the_sealed_test(home: Path) -> None:
    make_tiny_base(home / "larger", seed=1)
    session, told = session_of(home, "few_shot: [1]\n  bases: [larger]")
    run = run_stages(session, "opponents")
    assert run.plan is not None
    assert run.opponents is not None
    assert run.plan.plan.strong_opponents == ()
    assert "no strong opponent is tried" in told.getvalue()
    _, own, other = run.opponents.scorecards
    assert (own.candidate.base, other.candidate.base) == ("base", "larger")
    assert other.candidate.name.endswith(") on larger")
    finalists = run.opponents.finalist_candidates()
    assert {finalist.base for finalist in finalists} == {"base", "larger"}
    assert len({finalist.name for finalist in finalists}) == 2
    # The base that answers is that of the candidate: validation rows get the answers they got before.
    rows = read_split(run.dataset, "validation")
    for card in (own, other):
        answer = answerer(session, run.dataset, run.plan.plan, NO_TRAINING, card.candidate)
        given = answer(rows, silent)
        assert given.labels == [prediction.answer for prediction in card.predictions]


def test_bases_that_do_not_fit_or_share_a_name_are_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = session_of(home, "few_shot: [1]\n  bases: [base]")
    with pytest.raises(UserError, match="two bases are called base"):
        other_bases(session)
    parameters = count_parameters(home / "base")
    assert parameters == sum(weight.numel() for weight in load_tiny(home / "base").model.parameters())
    monkeypatch.setattr(bases, "available_mb", lambda: 0.1)
    with pytest.raises(UserError, match=r"base needs about .* GiB of memory in fp32"):
        check_memory(session.base(), "fp32")
    (tmp_path / "bad.safetensors").write_bytes(b"12345678 no header")
    with pytest.raises(UserError, match="no safetensors file"):
        count_parameters(tmp_path)


def test_the_tuned_model_goes_on_with_passages_only_where_they_help_on_validation(home: Path) -> None:
    session, _ = session_of(home, "few_shot: []\n  retrieval: {k: [1], with_tuned: true}")
    run = run_stages(session, "train")
    assert run.plan is not None
    assert run.train is not None
    card, training = run.train.validation, run.train.training
    rows, plan = read_split(run.dataset, "validation"), run.plan.plan

    def asked_with(passages: int) -> Answers:
        settings = {**card.candidate.settings, "passages": passages}
        candidate = replace(card.candidate, settings=settings)
        return answerer(session, run.dataset, plan, training, candidate)(rows, silent)

    plain, shown = asked_with(0), asked_with(1)
    assert shown.tokens > plain.tokens
    reached = [
        sum(answer == row.target for answer, row in zip(answers.labels, rows, strict=True))
        for answers in (plain, shown)
    ]
    assert passages_of(card.candidate) == int(reached[1] > reached[0])
    chosen = shown if reached[1] > reached[0] else plain
    assert chosen.labels == [prediction.answer for prediction in card.predictions]
