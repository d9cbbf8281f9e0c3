"""What a user sees of the objectives: the watched metric, the course, long rows, and bad input told early."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tiny import CHAT_TEMPLATE, FP32_PLAN, load_tiny, make_tiny_base, toy_rows
from tunesmith.candidates.tuned import put_adapter
from tunesmith.engine.added_tokens import grow
from tunesmith.engine.lora import lora_layers
from tunesmith.errors import UserError
from tunesmith.models.merging import save_model
from tunesmith.pipeline import run_stages
from tunesmith.records import Message
from tunesmith.stages.data import make_dataset
from tunesmith.stages.plan import make_plan
from tunesmith.stages.session import Session
from tunesmith.stages.train import train_adapter
from tunesmith.task import load_task
from tunesmith.training import optimisers
from tunesmith.workspace import Workspace

LABELS = ("billing", "delivery", "refund", "greeting")
TASK = """\
name: toy
kind: classify
instruction: Name the team.
data: {{path: {data}, input: text, target: label}}
split: {{train: 100, validation: 60, test: 60, seed: 1}}
goal: {{gain: 0.02}}
base: {base}
opponents: {{classical: true, zero_shot: false, few_shot: []}}
train: {{rank: 4, alpha: 8, learning_rate: 1e-2, epochs: 2, batch_size: 16{train}}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    make_tiny_base(folder / "base")
    rows = toy_rows(220, LABELS, seed=0)
    for index in range(0, 220, 40):
        text = " ".join(f"w{index}x{word}" for word in range(45))
        rows[index] = replace(rows[index], messages=(Message("user", text),))
    lines = (json.dumps({"text": row.text, "label": row.target}) for row in rows)
    (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def session(home: Path, runs: Path, train: str = "", base: Path | None = None) -> Session:
    text = TASK.format(data=home / "rows.jsonl", base=base or home / "base", train=train)
    runs.mkdir(parents=True, exist_ok=True)
    (runs / "task.yaml").write_text(text, encoding="utf-8")
    task = load_task(runs / "task.yaml")
    return Session(task, Workspace(runs).task(task.name), Console(quiet=True), cache=home / "cache")


def test_a_run_watches_the_metric_keeps_its_best_step_and_lists_long_rows(home: Path, tmp_path: Path) -> None:
    extra = ", watch_metric: true, best_by: metric, long_rows: drop, max_tokens: 150, schedule: cosine"
    watching = session(home, tmp_path, extra)
    dataset, _ = make_dataset(watching)
    trained = train_adapter(watching, dataset, make_plan(watching, dataset).plan)
    training = trained.training
    metrics = {point.step: point.metric for point in training.validation}
    assert all(metric is not None and metric.rows == 60 for metric in metrics.values())
    values = {step: metric.value for step, metric in metrics.items() if metric is not None}
    assert values[training.best_step] == max(values.values())
    # Measured on all of validation, by the same code: what the tuned candidate then has.
    assert values[training.best_step] == trained.validation.metrics["accuracy"].value
    assert training.course is not None
    assert training.course.sentence.startswith(training.course.course)
    assert training.long_rows
    assert all(row.tokens > 150 and row.kept_tokens is None for row in training.long_rows)
    assert training.cost.rows == 100 - len(training.long_rows)
    assert all(point.train_loss is not None for point in training.validation)


def test_an_adapter_on_a_base_that_was_tuned_with_added_tokens_can_be_loaded(
    home: Path, tmp_path: Path
) -> None:
    grown = grow(load_tiny(home / "base"), ["[AMOUNT]"])
    base = tmp_path / "base"
    save_model(grown, dict(grown.model.named_parameters()), base, torch.float32)
    tuning = session(home, tmp_path / "runs", base=base)
    dataset, _ = make_dataset(tuning)
    trained = train_adapter(tuning, dataset, FP32_PLAN).training
    loaded = load_tiny(base)
    assert loaded.chat.ordinary == ("[AMOUNT]",)
    assert lora_layers(put_adapter(loaded, Path(trained.adapter_folder)).model)


def test_long_rows_are_refused_by_the_plan_unless_the_task_says_what_to_do(
    home: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"rows do not fit train\.max_tokens of 150 tokens: .*rows\.jsonl:"):
        run_stages(session(home, tmp_path, ", max_tokens: 150"), "plan")


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ raise_exception('no conversations here') }}", "template fails .*no conversations here"),
        ("{% for message in %}", "template fails"),
        ("{{ messages[9]['content'] }}", "template fails"),
        ("{{ 1 // 0 }}", "template fails .*zero"),
    ],
)
def test_a_chat_template_that_fails_is_told_before_any_long_work(
    home: Path, tmp_path: Path, template: str, told: str
) -> None:
    base = tmp_path / "base"
    shutil.copytree(home / "base", base)
    (base / "chat_template.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(UserError, match=told) as caught:
        run_stages(session(home, tmp_path / "runs", base=base), "plan")
    assert "another chat template" in caught.value.fix


def test_a_tokenizer_without_an_end_token_is_told_before_any_long_work(home: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(home / "base", base)
    config = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["eos_token"] = None
    (base / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    # A template that closes answers with an ordinary word.
    (base / "chat_template.jinja").write_text(CHAT_TEMPLATE.replace("<|im_end|>", "end"), encoding="utf-8")
    with pytest.raises(UserError, match="has no end token") as caught:
        run_stages(session(home, tmp_path / "runs", base=base), "plan")
    assert "eos_token" in caught.value.fix


def test_an_optimiser_whose_library_is_missing_is_told_by_the_plan(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimisers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="adamw8bit needs bitsandbytes"):
        run_stages(session(home, tmp_path, ", optimiser: adamw8bit"), "plan")
