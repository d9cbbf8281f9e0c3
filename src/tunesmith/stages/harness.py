"""Tasks of lm-evaluation-harness as a guard on forgetting; the extra `lm-eval` brings the package."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import UserError
from tunesmith.files import content_hash, file_sha256
from tunesmith.records import Plan
from tunesmith.stages.session import Session
from tunesmith.task import Task
from tunesmith.task.guard_settings import LmEvalSettings

if TYPE_CHECKING:
    from tunesmith.evaluation.harness import TaskScores
    from tunesmith.models.loading import LoadedModel
    from tunesmith.progress import Report
    from tunesmith.stages.harness_model import Lengths
    from tunesmith.stages.train import TrainResult

INSTALL = "pip install 'tunesmith[lm-eval]'"
FEW_SHOT_SEED = 1234  # the harness's own
TIMED_ITEMS = 16  # for the plan


def check_installed(task: Task) -> None:
    """UserError where the task names lm-eval tasks and the package or the folder of data is not there."""
    asked = task.guards.lm_eval
    if asked is None:
        return
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(
            "guards.lm_eval: the package lm-eval is not installed",
            fix=f"{INSTALL}, or leave guards.lm_eval out of the task",
        )
    if asked.data is not None and not task.resolve(asked.data).is_dir():
        raise UserError(
            f"guards.lm_eval.data: there is no folder {task.resolve(asked.data)}",
            fix="correct the path; a relative one starts at the folder of the task file. Without it data "
            "comes from the Hub",
        )


def check_tasks(session: Session) -> None:
    """UserError where a task cannot be loaded or judged, before any work is done."""
    check_installed(session.task)
    if session.task.guards.lm_eval is not None:
        _loaded_tasks(session.task, session.task.guards.lm_eval)


def task_sizes(task: Task) -> dict[str, int]:
    """How many items of each task are asked; empty without any task."""
    asked = task.guards.lm_eval
    if asked is None:
        return {}
    return {
        name: min(len(found.eval_docs), asked.limit or len(found.eval_docs))
        for name, found in _loaded_tasks(task, asked).items()
    }


def planned_seconds(loaded: LoadedModel, task: Task) -> float:
    """About how long the tasks take, asked of base and tuned model: timed on one item and on a few."""
    from tunesmith.progress import silent
    from tunesmith.stages.harness_model import Lengths

    asked = task.guards.lm_eval
    if asked is None:
        return 0.0
    seconds = 0.0
    for name, found in _loaded_tasks(task, asked).items():
        items = min(len(found.eval_docs), asked.limit or len(found.eval_docs))
        some = min(items, TIMED_ITEMS)
        spent = []
        for limit in (some, 1, some):  # the first warms up
            started = time.perf_counter()
            _score(loaded, {name: found}, limit, Lengths(), silent)
            spent.append(time.perf_counter() - started)
        of_each = max(0.0, spent[2] - spent[1]) / max(1, some - 1)
        seconds += 2 * (spent[1] + of_each * (items - 1))
    return seconds


def tasks_sha256(task: Task) -> str | None:
    """Names the release of the package and every file in the folder of data; None without any task."""
    asked = task.guards.lm_eval
    if asked is None:
        return None
    check_installed(task)
    folder = None if asked.data is None else task.resolve(asked.data)
    files = [] if folder is None else sorted(path for path in folder.rglob("*") if path.is_file())
    named = [[str(path.relative_to(folder)), file_sha256(path)] for path in files if folder is not None]
    return content_hash([importlib.metadata.version("lm_eval"), named])


def task_scores_of(
    session: Session, plan: Plan, train: TrainResult
) -> tuple[list[TaskScores], list[TaskScores]] | None:
    """The tasks as scored by the base and by the tuned model; None without any."""
    from tunesmith.candidates.tuned import put_adapter
    from tunesmith.engine.lora import lora_disabled
    from tunesmith.stages.harness_model import Lengths

    asked = session.task.guards.lm_eval
    if asked is None:
        return None
    loaded, lengths = session.loaded(plan.precision), Lengths()
    tuned_model = put_adapter(loaded, Path(train.training.adapter_folder))
    with session.bar("verdict", "lm-eval tasks, base") as report, lora_disabled(loaded.model):
        base = score_tasks(loaded, session.task, asked, lengths, report)
    with session.bar("verdict", "lm-eval tasks, tuned model") as report:
        tuned = score_tasks(tuned_model, session.task, asked, lengths, report)
    if lengths.cut:
        session.say(
            f"lm-eval: {lengths.cut:,} of {lengths.asked:,} contexts were longer than the model reads; as in "
            "that package, they lost their beginning"
        )
    return base, tuned


def score_tasks(
    loaded: LoadedModel, task: Task, asked: LmEvalSettings, lengths: Lengths, report: Report
) -> list[TaskScores]:
    """One model's score on every item of every task, in the order of the settings."""
    return _score(loaded, _loaded_tasks(task, asked), asked.limit, lengths, report)


def _score(
    loaded: LoadedModel, tasks: dict[str, Any], limit: int | None, lengths: Lengths, report: Report
) -> list[TaskScores]:
    from lm_eval.evaluator import evaluate

    from tunesmith.evaluation.harness import TaskScores

    for found in tasks.values():
        if found.get_config("num_fewshot") is None:
            found.set_config(key="num_fewshot", value=0)
        found.set_fewshot_seed(seed=FEW_SHOT_SEED)
    model = _model(loaded, {name for name, found in tasks.items() if _asks_greedy(found)}, lengths, report)
    results = evaluate(model, {"tasks": tasks, "groups": {}, "group_map": {}}, limit=limit, bootstrap_iters=0)
    scored = []
    for name, found in tasks.items():
        metric = _metric(found, name)
        samples = results["samples"][name]
        first = samples[0]["filter"]  # of several ways to read an answer, the task's first
        samples = sorted((one for one in samples if one["filter"] == first), key=lambda one: one["doc_id"])
        scored.append(
            TaskScores(
                name,
                metric,
                tuple(one["doc_hash"] for one in samples),
                tuple(float(one[metric]) for one in samples),
                _guessing(found, [one["doc"] for one in samples]),
            )
        )
    return scored


def _loaded_tasks(task: Task, asked: LmEvalSettings) -> dict[str, Any]:
    """The package's own objects, by name. Relative paths in them start at the folder of data."""
    from lm_eval.tasks import TaskManager

    folder = None if asked.data is None else task.resolve(asked.data).resolve()
    manager = TaskManager(include_path=folder, include_defaults=False)
    if not set(asked.tasks) <= set(manager.all_tasks):  # to look through all that it brings takes seconds
        manager = TaskManager(include_path=folder)
    return {name: _loaded_task(manager, name, folder) for name in asked.tasks}


def _loaded_task(manager: Any, name: str, folder: Path | None) -> Any:
    if name not in manager.all_tasks:
        raise UserError(
            f"guards.lm_eval.tasks: lm-eval has no task {name!r}",
            fix="`lm-eval ls tasks` lists them; one of your own is a YAML file in guards.lm_eval.data",
        )
    if name in manager.all_groups or name in manager.all_tags:
        raise UserError(
            f"guards.lm_eval.tasks: {name!r} is a group of tasks, whose items are not one sample",
            fix="name the tasks in it that matter",
        )
    try:
        with contextlib.chdir(folder or Path.cwd()):
            found = manager.load([name])["tasks"][name]
    except Exception as error:  # whatever a task's own code and the download of its data raise
        said = str(error).strip().splitlines() or [""]
        raise UserError(
            f"guards.lm_eval.tasks: {name} cannot be loaded ({type(error).__name__}: {said[0][:200]})",
            fix="put its data into guards.lm_eval.data under the path that the task's dataset_path names, or "
            "see that the Hub can be reached",
        ) from error
    for flag, what in (("UNSAFE_CODE", "runs code that a model wrote"), ("MULTIMODAL", "shows pictures")):
        if getattr(found, flag, False):
            raise UserError(f"guards.lm_eval.tasks: {name} {what}", fix="leave this task out")
    _metric(found, name)
    return found


def _metric(found: Any, name: str) -> str:
    """The first of the task's metrics that is a mean over items, and larger when better."""
    from lm_eval.api.metrics import mean

    combined, larger = found.aggregation(), found.higher_is_better()
    for metric, function in combined.items():
        # Whether an option would be written greedily is not asked of tasks that choose among options.
        unknown = metric == "exact_match" and found.OUTPUT_TYPE == "multiple_choice"
        if function is mean and larger.get(metric) and not unknown:
            return str(metric)
    raise UserError(
        f"guards.lm_eval.tasks: {name} has no metric that is a mean over its items and larger when better "
        f"(found: {', '.join(combined)}), so base and tuned model cannot be compared item by item",
        fix="leave this task out; what text in general costs is measured by guards.general_text",
    )


def _asks_greedy(found: Any) -> bool:
    return bool(found.OUTPUT_TYPE == "loglikelihood")


def _guessing(found: Any, docs: Sequence[Any]) -> float:
    """The share of right answers that guessing gives; 0 where nothing is chosen among options."""
    if found.OUTPUT_TYPE != "multiple_choice":
        return 0.0
    return sum(1 / len(found.doc_to_choice(doc)) for doc in docs) / len(docs)


def _model(loaded: LoadedModel, greedy: set[str], lengths: Lengths, report: Report) -> Any:
    """The package's model interface over our engine; ``greedy`` names the tasks that ask what is greedy."""
    from lm_eval.api.model import LM

    from tunesmith.stages import harness_model

    class EngineModel(LM):  # type: ignore[misc]  # the package is no dependency, so it has no types here
        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            wanted = [request.task_name in greedy for request in requests]
            pairs = [request.args for request in requests]
            return harness_model.log_likelihoods(loaded, pairs, wanted, lengths, report)

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            texts = [request.args[0] for request in requests]
            return harness_model.rolling_log_likelihoods(loaded, texts, report)

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            asked = [request.args for request in requests]
            return harness_model.written_texts(loaded, asked, lengths, report)

    return EngineModel()
