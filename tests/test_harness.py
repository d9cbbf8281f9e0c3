"""Claims about lm-evaluation-harness tasks as a guard: our engine's answers, pairing, and refusals."""

import importlib.util
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tiny import load_tiny, make_tiny_base
from toy_task import TASK
from tunesmith.errors import UserError
from tunesmith.evaluation.harness import TaskScores, measure_tasks
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import encode
from tunesmith.progress import silent
from tunesmith.records import Verdict
from tunesmith.report.terminal import verdict_lines
from tunesmith.stages.harness import check_installed, planned_seconds, score_tasks, task_sizes, tasks_sha256
from tunesmith.stages.harness_model import (
    Lengths,
    log_likelihoods,
    rolling_log_likelihoods,
    written_texts,
)
from tunesmith.task import Task, load_task
from tunesmith.task.guard_settings import GuardsSettings


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_tiny(make_tiny_base(tmp_path_factory.mktemp("harness") / "base"))


@torch.no_grad()
def by_transformers(loaded: LoadedModel, prompt: list[int], continuation: list[int]) -> tuple[float, bool]:
    logits = loaded.model(torch.tensor([[*prompt, *continuation]])).logits[0].float().log_softmax(-1)
    steps = logits[len(prompt) - 1 : -1]
    nats = steps.gather(1, torch.tensor(continuation)[:, None]).sum().item()
    return nats, steps.argmax(-1).tolist() == continuation


def test_likelihoods_are_the_models_own_and_greedy_is_what_it_would_write(loaded: LoadedModel) -> None:
    question = "Is this a garden?"
    # What it would write, as text: the second continuation is greedy by construction.
    written = written_texts(loaded, [(question, {"until": [], "max_gen_toks": 3})], Lengths())[0]
    asked = [(question, " yes"), (question, written), (f"{question} ", "no"), ("", "The house")]
    found = log_likelihoods(loaded, asked, [True] * 4, Lengths())
    for (context, continuation), (nats, greedy) in zip(asked, found, strict=True):
        whole, before = encode(loaded, context + continuation), encode(loaded, context.rstrip())
        prompt = before or [loaded.end_token]
        expected = by_transformers(loaded, prompt, whole[len(before) :])
        assert nats == pytest.approx(expected[0], abs=1e-3)
        assert greedy == expected[1]
    assert not log_likelihoods(loaded, asked[1:2], [False], Lengths())[0][1]


def test_a_context_that_is_too_long_loses_its_beginning_and_is_counted(loaded: LoadedModel) -> None:
    long = "the garden is green and the street is long " * 100
    lengths = Lengths()
    (nats, _), _ = log_likelihoods(loaded, [(long, " yes"), ("Short.", " yes")], [False, False], lengths)
    assert (lengths.asked, lengths.cut) == (2, 1)
    before, after = encode(loaded, long.rstrip()), encode(loaded, " yes")
    whole = encode(loaded, long.rstrip() + " " + " yes")[len(before) :]
    kept = before[-(loaded.context_tokens - len(whole)) :]
    assert nats == pytest.approx(by_transformers(loaded, kept, whole)[0], abs=1e-3)
    assert after
    with pytest.raises(UserError, match="what stands before it"):
        log_likelihoods(loaded, [("Short.", long)], [False], lengths)


def test_a_whole_text_is_predicted_token_by_token_also_in_windows(loaded: LoadedModel) -> None:
    text = "The garden is green."
    long = "the garden is green and the street is long " * 100
    short, windows = rolling_log_likelihoods(loaded, [text, long])
    alone = by_transformers(loaded, [loaded.end_token], encode(loaded, text))[0]
    assert short == pytest.approx(alone, abs=1e-3)
    ids, room = [loaded.end_token, *encode(loaded, long)], loaded.context_tokens - 1
    expected = 0.0
    for start in range(1, len(ids), room):
        stop = min(start + room, len(ids))
        expected += by_transformers(loaded, ids[max(0, stop - 1 - room) : start], ids[start:stop])[0]
    assert windows == pytest.approx(expected, rel=1e-4)


def test_texts_end_before_a_stop_string(loaded: LoadedModel) -> None:
    free = written_texts(loaded, [("Is this a garden?", {"until": [], "max_gen_toks": 12})], Lengths())[0]
    stop = free[len(free) // 2]
    asked: list[tuple[str, dict[str, Any]]] = [("Is this a garden?", {"until": stop, "max_gen_toks": 12})]
    assert written_texts(loaded, asked, Lengths())[0] == free[: free.index(stop)]
    with pytest.raises(UserError, match="answers of 9,999 tokens"):
        written_texts(loaded, [("Why?", {"max_gen_toks": 9999})], Lengths())


def scores(right: list[float], guessing: float = 0.25, name: str = "arc") -> TaskScores:
    items = tuple(f"item {number}" for number in range(len(right)))
    return TaskScores(name, "acc", items, tuple(right), guessing)


@pytest.mark.parametrize(
    ("before", "after", "answer"),
    [
        ([1.0, 1.0, 1.0, 0.0] * 100, [1.0, 1.0, 1.0, 0.0] * 100, "passed"),
        ([1.0, 1.0, 1.0, 0.0] * 100, [1.0, 0.0, 1.0, 0.0] * 100, "failed"),
        ([1.0, 1.0, 1.0, 0.0] * 5, [1.0, 1.0, 1.0, 0.0] * 5, "unmeasured"),  # too few
        ([1.0, 0.0, 0.0, 0.0] * 100, [1.0, 0.0, 0.0, 0.0] * 100, "unmeasured"),  # the base guesses
        ([0.5, 1.0, 1.0, 0.25] * 100, [0.5, 1.0, 1.0, 0.25] * 100, "passed"),  # scores between 0 and 1
        ([5.0, 7.0, 1.0, 0.25] * 100, [5.0, 7.0, 1.0, 0.25] * 100, "unmeasured"),
        ([math.nan, 1.0, 1.0, 1.0] * 100, [1.0] * 400, "unmeasured"),
    ],
)
def test_a_task_passes_only_where_its_loss_is_shown_to_be_small(
    before: list[float], after: list[float], answer: str
) -> None:
    domains, checks = measure_tasks([scores(before)], [scores(after)], 0.02, True, 0.9)
    assert [check.answer for check in checks] == [answer]
    assert checks[0].blocking
    assert checks[0].name == "forgetting: lm-eval arc (acc)"
    assert len(domains) == (0 if any(not 0 <= one <= 1 for one in before) else 1)


def test_the_terminal_tells_of_tasks_beside_all_text_and_all_probes() -> None:
    right = [1.0, 1.0, 1.0, 0.0] * 100
    changes, _ = measure_tasks([scores(right)], [scores(right)], 0.02, False, 0.9)
    verdict = Verdict("DON'T", "Too small a gain.", None, (), (), None, 1, 0.05, "estimate", 0.02)
    console = Console(width=200)
    with console.capture() as shown:
        console.print(verdict_lines(verdict, (), (*changes, replace(changes[0], domain="all probes"))))
    assert "lm-eval arc (acc): 0.0 [" in shown.get()
    assert "all probes: 0.0 [" in shown.get()


def test_models_that_were_asked_other_items_are_not_compared() -> None:
    with pytest.raises(ValueError, match="other items of arc"):
        measure_tasks([scores([1.0] * 60)], [scores([1.0] * 61)], 0.02, False, 0.9)


def task_with(folder: Path, guard: str) -> Task:
    text = TASK.partition("guards:")[0].format(data="rows.jsonl", base="base", learning_rate=1e-3, seed=0)
    path = folder / "task.yaml"
    path.write_text(f"{text}guards:\n  lm_eval: {guard}\n", encoding="utf-8")
    return load_task(path)


def test_without_the_package_the_task_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_with(tmp_path, "{tasks: [arc_easy], margin: 0.02}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="not installed") as caught:
        check_installed(task)
    assert "pip install 'tunesmith[lm-eval]'" in caught.value.fix
    with pytest.raises(UserError, match="not installed"):
        tasks_sha256(task)


def test_a_folder_of_data_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_with(tmp_path, "{tasks: [arc_easy], data: nowhere, margin: 0.02}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(UserError, match="nowhere"):
        check_installed(task)


OWN_TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: items.jsonl}}, cache_dir: {cache}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
{more}
"""
CHOICE = 'doc_to_target: 0\ndoc_to_choice: ["yes", "no", "maybe"]'
MEAN = "{aggregation: mean, higher_is_better: true, metric: "
TASKS = {
    "choosing": ("multiple_choice", CHOICE + f"\nmetric_list: [{MEAN}acc}}]"),
    "ending": ("loglikelihood", f"metric_list: [{MEAN}acc}}]"),
    "writing": (
        "generate_until",
        f'generation_kwargs: {{until: ["."], max_gen_toks: 4}}\nmetric_list: [{MEAN}exact_match}}]',
    ),
    "corpus": ("loglikelihood_rolling", "metric_list: [{metric: word_perplexity}]"),
}


@pytest.fixture
def own_tasks(tmp_path: Path) -> Path:
    """A folder with four tasks about 12 questions, and a task file beside it."""
    pytest.importorskip("lm_eval", reason="needs tunesmith[lm-eval]")
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name, (kind, more) in TASKS.items():
        text = OWN_TASK.format(name=name, kind=kind, more=more, cache=tmp_path / "cache")
        if name == "choosing":
            text = text.replace('doc_to_target: "{{answer}}"\n', "")
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    words = ["garden", "street", "house", "river", "window", "table", "tree", "road", "night", "summer"]
    items = [{"question": f"Is the {word} green?", "answer": "yes"} for word in words]
    lines = "\n".join(json.dumps(item) for item in items)
    (folder / "items.jsonl").write_text(lines + "\n", encoding="utf-8")
    return tmp_path


def test_the_packages_tasks_are_scored_by_our_engine_item_by_item(
    own_tasks: Path, loaded: LoadedModel
) -> None:
    task = task_with(own_tasks, "{tasks: [choosing, ending, writing], data: tasks, limit: 8, margin: 0.02}")
    asked = task.guards.lm_eval
    assert asked is not None
    lengths = Lengths()
    choosing, ending, writing = score_tasks(loaded, task, asked, lengths, silent)
    assert [len(one.scores) for one in (choosing, ending, writing)] == [8, 8, 8]
    assert [one.guessing for one in (choosing, ending, writing)] == pytest.approx([1 / 3, 0, 0])
    assert choosing.metric == "acc"
    assert len(set(choosing.items)) == 8
    assert lengths.cut == 0
    words = ["garden", "street", "house", "river", "window", "table", "tree", "road"]
    for word, chosen, ended in zip(words, choosing.scores, ending.scores, strict=True):
        question = f"Is the {word} green?"
        prompt = encode(loaded, question)
        nats = [
            by_transformers(loaded, prompt, encode(loaded, f"{question} {option}")[len(prompt) :])
            for option in ("yes", "no", "maybe")
        ]
        assert chosen == float(max(nats)[0] == nats[0][0])
        assert ended == float(nats[0][1])
    again = score_tasks(loaded, task, asked, lengths, silent)
    assert again == [choosing, ending, writing]
    assert task_sizes(task) == {"choosing": 8, "ending": 8, "writing": 8}
    started = time.perf_counter()
    planned = planned_seconds(loaded, task)
    assert 0 < planned < 2 * (time.perf_counter() - started)  # all 8 items were timed, for two models
    assert planned_seconds(loaded, task.model_copy(update={"guards": GuardsSettings()})) == 0


def test_the_files_in_the_folder_of_data_name_what_is_measured(own_tasks: Path) -> None:
    task = task_with(own_tasks, "{tasks: [choosing], data: tasks, margin: 0.02}")
    before = tasks_sha256(task)
    assert before == tasks_sha256(task)
    (own_tasks / "tasks" / "items.jsonl").write_text(
        '{"question": "Why?", "answer": "no"}\n', encoding="utf-8"
    )
    assert tasks_sha256(task) != before


def test_a_task_without_scores_by_item_and_one_whose_data_is_missing_are_refused(own_tasks: Path) -> None:
    with pytest.raises(UserError, match=r"corpus has no metric that is a mean.*word_perplexity"):
        task_sizes(task_with(own_tasks, "{tasks: [corpus], data: tasks, margin: 0.02}"))
    (own_tasks / "tasks" / "items.jsonl").unlink()
    with pytest.raises(UserError, match="choosing cannot be loaded"):
        task_sizes(task_with(own_tasks, "{tasks: [choosing], data: tasks, margin: 0.02}"))
