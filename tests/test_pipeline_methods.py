"""A whole run by each method that does not leave the base as it is, and what is refused before any work."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file

from tiny import link_base, make_tiny_base, toy_rows
from tunesmith.errors import UserError
from tunesmith.pipeline import Run, run_stages
from tunesmith.report.terminal import training_lines
from tunesmith.stages.ask import ask
from tunesmith.stages.merge import merge
from tunesmith.stages.session import Session
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

LABELS = ("billing", "delivery", "refund", "greeting")
TASK = """\
name: toy
kind: classify
instruction: Name the team.
data: {{path: rows.jsonl, input: text, target: label}}
split: {{train: 100, validation: 50, test: 60, seed: 1}}
goal: {{gain: 0.02}}
base: {base}
opponents: {{classical: true, zero_shot: false, few_shot: []}}
train: {{{train}}}
guards: {{robustness: {{margin: 0.1, rows: 0}}}}
"""


@pytest.fixture(scope="module")
def home(general_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    link_base(general_base, folder)
    rows = [{"text": row.text, "label": row.target} for row in toy_rows(260, LABELS, seed=0)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def session_of(home: Path, train: str, base: str = "base", runs: str | None = None) -> Session:
    path = home / f"{abs(hash((train, base)))}.yaml"
    path.write_text(TASK.format(train=train, base=base), encoding="utf-8")
    folder = Workspace(home / (runs or path.stem)).task("toy")
    folder.keep_task_file(path)
    return Session(load_task(path), folder, Console(quiet=True), home / "cache")


def told(run: Run) -> str:
    assert run.train is not None
    console = Console(width=400)
    with console.capture() as capture:
        console.print(training_lines(run.train.training, run.train.validation.candidate))
    return capture.get()


def test_full_fine_tuning_from_task_to_answer(home: Path) -> None:
    session = session_of(home, "method: full, learning_rate: 2e-3, epochs: 1, batch_size: 16")
    run = run_stages(session, "report")
    assert run.train is not None
    assert run.summary is not None
    training = run.train.training
    assert training.trainable_parameters == training.total_parameters
    assert training.agreement is not None
    assert training.agreement.peft is None
    assert run.train.validation.candidate.name.endswith("+ full fine-tuning")
    folder = Path(training.adapter_folder)
    assert {"config.json", "model.safetensors", "tokenizer.json", "base.json"} <= {
        p.name for p in folder.iterdir()
    }
    assert "nats from the saved model's" in told(run)
    changes = [item.change.value for item in run.summary.forgetting]
    assert any(change != 0 for change in changes)  # the base was measured as it was, beside the tuned model
    assert ask(session, "where is my parcel").answer in LABELS
    with pytest.raises(UserError, match="no adapter to merge"):
        merge(session, home / "merged", "bf16")


def test_qlora_from_task_to_trained_adapter(home: Path) -> None:
    session = session_of(home, "method: qlora, rank: 4, alpha: 8, learning_rate: 1e-2, epochs: 1")
    run = run_stages(session, "train")
    assert run.train is not None
    agreement = run.train.training.agreement
    assert agreement is not None
    assert agreement.peft is not None
    assert max(agreement.peft, agreement.merged) < 0.5
    assert "from PEFT's arithmetic" in told(run)
    assert run.train.message is not None
    assert "4 bits" in run.train.message
    assert run.train.validation.candidate.name.endswith("+ QLoRA")


def test_training_goes_on_from_an_adapter(home: Path) -> None:
    settings = "rank: 4, alpha: 8, learning_rate: 1e-2, epochs: 1"
    first = run_stages(session_of(home, settings, runs="chain"), "train")
    assert first.train is not None
    folder = Path(first.train.training.adapter_folder)
    start = folder.relative_to(home)
    second = run_stages(session_of(home, f"{settings}, start_from: {start}", runs="chain"), "train")
    assert second.train is not None
    losses = [run.train.training.train[0].loss for run in (first, second) if run.train]
    assert losses[1] < 0.9 * losses[0]
    ours, theirs = (
        load_file(Path(run.train.training.adapter_folder) / "adapter_model.safetensors")
        for run in (first, second)
        if run.train
    )
    assert ours.keys() == theirs.keys()
    make_tiny_base(home / "other", seed=3)
    with pytest.raises(UserError, match="was trained on base weights"):
        run_stages(session_of(home, f"{settings}, start_from: {start}", base="other"), "plan")
    changed = settings.replace("rank: 4", "rank: 8")
    with pytest.raises(UserError, match="was trained with rank 4, not 8"):  # before anything is measured
        run_stages(session_of(home, f"{changed}, start_from: {start}", runs="chain"), "plan")


@pytest.mark.parametrize(
    ("train", "what"),
    [
        ("start_from: nowhere", "train.start_from: there is no folder .*nowhere"),
        ("targets: [query]", "train.targets: 'query' matches nothing in LlamaForCausalLM"),
        ("device: 'cuda:9'", "train.device: cuda:9 does not exist on this machine"),
        ("add_tokens: [<|im_end|>]", "is a token of .* already"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(home: Path, train: str, what: str) -> None:
    session = session_of(home, train)
    with pytest.raises(UserError, match=what):
        run_stages(session, "train")
    assert not list(session.folder.path.glob("stages/opponents-*"))


def test_what_does_not_fit_the_memory_is_refused_before_the_base_is_loaded(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.stages.plan_methods.available_mb", lambda: 20.0)
    monkeypatch.setattr("tunesmith.models.loading.load_base", None)  # loading would be a TypeError
    with pytest.raises(UserError, match=r"full of this base needs at least [\d.]+ GiB of memory"):
        run_stages(session_of(home, "method: full, seed: 7"), "plan")


def test_added_tokens_from_task_to_answer(home: Path) -> None:
    settings = "rank: 4, alpha: 8, learning_rate: 1e-2, epochs: 1, add_tokens: [delivery, refund]"
    session = session_of(home, settings)
    run = run_stages(session, "verdict")
    assert run.train is not None
    agreement = run.train.training.agreement
    assert agreement is not None
    assert agreement.peft is not None
    assert max(agreement.peft, agreement.merged) < 0.5
    folder = Path(run.train.training.adapter_folder)
    saved = load_file(folder / "adapter_model.safetensors")
    names = {f"base_model.model.{name}.weight" for name in ("model.embed_tokens", "lm_head")}
    assert names <= saved.keys()
    assert (folder / "tokenizer.json").is_file()
    assert run.verdict is not None


def test_qlora_without_bitsandbytes_is_refused_before_any_data_is_read(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    session = session_of(home, "method: qlora, seed: 9")
    with pytest.raises(UserError, match="needs bitsandbytes"):
        run_stages(session, "train")
    assert not session.folder.datasets.exists()


def test_a_report_of_a_run_without_the_comparison_leaves_it_out(home: Path) -> None:
    run = run_stages(
        session_of(home, "rank: 4, alpha: 8, learning_rate: 1e-2, epochs: 1", runs="chain"), "train"
    )
    assert run.train is not None
    without = replace(run.train, training=replace(run.train.training, agreement=None))
    assert "saved and read back" in told(run)
    assert "saved and read back" not in told(replace(run, train=without))


def test_a_note_keeps_its_brackets_and_its_column(home: Path) -> None:
    session = session_of(home, "epochs: 1")
    session.console = Console(file=io.StringIO(), width=60)
    with session.console.capture() as out:
        session.say("the token [AMOUNT] is kept as it is, also in a note that is too long for one line")
    first, second = out.get().rstrip().splitlines()
    assert "[AMOUNT]" in first
    assert re.match(r" {11}\S", second)
