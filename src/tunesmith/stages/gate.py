"""The gate: the checks of the latest verdict, answered once more from what lies on disk.

Nothing is trained, scored or opened. What is missing from the stored result, or differs from what the ledger
says was decided, is *unmeasured*, and unmeasured blocks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunesmith import ledger
from tunesmith.errors import UserError
from tunesmith.evaluation.verdict import decide
from tunesmith.files import content_hash, file_sha256, record_parser, weights_sha256
from tunesmith.records import Answer, Check, Decision
from tunesmith.stages.people import people_checks
from tunesmith.stages.verdict import VerdictResult, guards_sha256
from tunesmith.stages.verdict_line import asked_of
from tunesmith.stats.levels import alpha_for_opening
from tunesmith.task import Task
from tunesmith.workspace import TaskFolder, adapter_folder, model_folder

# What the ledger's line of a verdict must say for its result to be checked.
LINE_KEYS = (
    "decision",
    "adapter_sha256",
    "test_sha256",
    "asked",
    "result",
    "result_sha256",
    "result_names",
)


@dataclass(frozen=True)
class Gate:
    """All checks, and one answer: passed when every blocking one passed, failed when one failed.

    ``missing`` names the keys that the stored result lacks; then nothing else could be checked.
    """

    task: str
    answer: Answer
    decision: Decision | None
    checks: tuple[Check, ...]
    missing: tuple[str, ...]


def check_gate(task: Task, folder: TaskFolder) -> Gate:
    """Check the latest verdict of ``task``.

    Raises UserError with exit code 3 when there is no verdict, or when its result cannot be read, and with
    exit code 1 when the ledger is broken.
    """
    lines = ledger.read(folder.ledger)
    verdicts = [line for line in lines if line.event == "verdict"]
    again = f"reach the verdict with this version: tunesmith verdict {folder.task_file}"
    if not verdicts:
        raise UserError(f"{folder.path}: no verdict has been reached", again, exit_code=3)
    said = verdicts[-1].data
    if lacking := [key for key in LINE_KEYS if key not in said]:
        raise UserError(
            f"{folder.ledger}: its last verdict (line {verdicts[-1].seq}) does not say {', '.join(lacking)}",
            again,
            exit_code=3,
        )
    path = next((path for path in folder.results("verdict") if path.parent.name == said["result"]), None)
    if path is None:
        raise UserError(f"{folder.path}: the result {said['result']} is gone", again, exit_code=3)
    stored = _read(path, again)
    result, missing = _parse(stored, said["result_names"], path, again)
    if result is None or missing:
        whole = Check(
            "the stored result is whole",
            "Does the stored result have every key?",
            "unmeasured",
            f"missing: {', '.join(missing)}",
            blocking=True,
        )
        return Gate(task.name, "unmeasured", None, (whole,), tuple(missing))
    frozen = [line.data.get("test_sha256") for line in lines if line.event == "frozen"]
    checks = (
        _is_the_one_decided(stored, said),
        _follows(result),
        _is_asked(task, result),
        _is_as_judged(task, said),
        _test_is_current(frozen, said),
        _adapter_is_there(folder, said),
        *result.verdict.checks,
        *people_checks(task, folder, said["adapter_sha256"]),
    )
    return Gate(task.name, _together(checks), result.verdict.decision, checks, ())


def _together(checks: Sequence[Check]) -> Answer:
    answers = {check.answer for check in checks if check.blocking}
    if "failed" in answers:
        return "failed"
    return "passed" if answers == {"passed"} else "unmeasured"


def _read(path: Path, again: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error})", again, exit_code=3) from error


def _parse(
    stored: Any, names: Sequence[str], path: Path, again: str
) -> tuple[VerdictResult | None, list[str]]:
    """The record, and the keys that are missing: those it must have, those with a default, and free ones."""
    from pydantic import ValidationError

    free = [name for name in names if not _has(stored, name)]
    try:
        result = record_parser(VerdictResult).validate_json(json.dumps(stored))
    except ValidationError as error:
        lost = [_dotted(problem["loc"]) for problem in error.errors() if problem["type"] == "missing"]
        if not lost and not free:
            problem = error.errors()[0]
            raise UserError(
                f"{path}: {_dotted(problem['loc']) or 'the file'}: {problem['msg'].lower()}",
                again,
                exit_code=3,
            ) from error
        return None, [*lost, *free]
    return result, [*_absent(asdict(result), stored, ""), *free]


def _absent(wanted: Any, stored: Any, where: str) -> list[str]:
    """Keys of ``wanted`` that ``stored`` lacks: the parser filled in their defaults."""
    if isinstance(wanted, dict):
        absent: list[str] = []
        for key, value in wanted.items():
            name = f"{where}.{key}" if where else key
            absent += _absent(value, stored[key], name) if key in stored else [name]
        return absent
    if isinstance(wanted, (list, tuple)):
        pairs = enumerate(zip(wanted, stored, strict=True))
        return [name for index, (one, other) in pairs for name in _absent(one, other, f"{where}[{index}]")]
    return []


def _has(stored: Any, name: str) -> bool:
    """Does a path such as ``scorecards[0].metrics.accuracy`` lead somewhere? A key may hold dots itself."""
    if not name:
        return True
    if name.startswith("["):
        index, _, rest = name[1:].partition("]")
        inside = isinstance(stored, list) and int(index) < len(stored)
        return inside and _has(stored[int(index)], rest.removeprefix("."))
    if not isinstance(stored, dict):
        return False
    heads = (key for key in stored if name == key or name.startswith((f"{key}.", f"{key}[")))
    return any(_has(stored[key], name[len(key) :].removeprefix(".")) for key in heads)


def _dotted(location: Sequence[int | str]) -> str:
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return name.removeprefix(".")


def _is_the_one_decided(stored: Any, said: dict[str, Any]) -> Check:
    same = content_hash(stored) == said["result_sha256"] and stored["verdict"]["decision"] == said["decision"]
    return Check(
        "the stored result is the one decided on",
        "Is the stored result, to the bit, the one whose hash the ledger holds?",
        "passed" if same else "unmeasured",
        f"ledger {said['result_sha256'][:12]}, on disk {content_hash(stored)[:12]}",
        blocking=True,
    )


def _follows(result: VerdictResult) -> Check:
    verdict = result.verdict
    tuned = next((card for card in result.scorecards if card.candidate.kind == "tuned"), None)
    opponents = [card for card in result.scorecards if card.candidate.kind != "tuned"]
    guards = verdict.checks[len(verdict.gains) :]
    again: str | None = None
    if tuned is not None and verdict.rule in ("estimate", "margin"):
        try:
            again = decide(
                verdict.gains,
                guards,
                goal_gain=verdict.goal_gain,
                rule="margin" if verdict.rule == "margin" else "estimate",
                alpha_one_sided=verdict.alpha_one_sided,
                opening=verdict.opening,
                tuned=tuned.metrics[verdict.metric],
                opponents=opponents,
                metric=verdict.metric,
            ).decision
        except (ValueError, KeyError):
            again = None
    return Check(
        "the decision follows from the numbers",
        "Do the stored gains and guards lead to the stored decision once more?",
        "passed" if again == verdict.decision else "unmeasured",
        f"stored {verdict.decision}, again {again or 'no decision: gains, levels and candidates disagree'}",
        blocking=True,
    )


def _is_asked(task: Task, result: VerdictResult) -> Check:
    """Metric, goal, rule, alpha and guards may have been edited since the verdict."""
    verdict, goal, guards = result.verdict, task.goal, task.guards
    differs = []
    if verdict.metric != task.metric:
        differs.append(f"goal.metric {task.metric}, judged {verdict.metric}")
    if verdict.goal_gain != goal.gain:
        differs.append(f"goal.gain {goal.gain:g}, judged {verdict.goal_gain:g}")
    if verdict.rule != goal.rule:
        differs.append(f"goal.rule {goal.rule}, judged {verdict.rule}")
    if abs(verdict.alpha_one_sided - alpha_for_opening(verdict.opening, goal.alpha)) > 1e-12:
        differs.append(f"goal.alpha {goal.alpha:g}, judged at another")
    blocking = {check.name: check.blocking for check in verdict.checks}
    margins = {item.domain: item.margin for item in result.forgetting}
    for name, domain, guard in (
        ("general_text", "all text", guards.general_text),
        ("probes", "all probes", guards.probes),
    ):
        if blocking.get(f"forgetting: {domain}") != guard.blocking:
            differs.append(f"guards.{name}.blocking {str(guard.blocking).lower()}, judged otherwise")
        # Without any item general ability could not be measured (an encoder): no margin was judged.
        if margins and margins.get(domain) != guard.margin:
            differs.append(f"guards.{name}.margin {guard.margin:g}, judged {margins.get(domain)}")
    if result.guards_sha256 != guards_sha256(task) and not differs:
        differs.append("guards are not as they were judged")
    return Check(
        "the task asks what was judged",
        "Are goal, rule, alpha and guards of the task those of the verdict?",
        "unmeasured" if differs else "passed",
        "; ".join(differs) or f"goal {verdict.goal_gain:g}, rule {verdict.rule}, alpha {goal.alpha:g}",
        blocking=True,
    )


def _is_as_judged(task: Task, said: dict[str, Any]) -> Check:
    now = asked_of(task)
    edited = [name for name in now if said["asked"].get(name) != now[name]]
    return Check(
        "the task is the one that was run",
        "Are data, base, instruction, opponents and training of the task as they were for the verdict?",
        "unmeasured" if edited else "passed",
        f"edited since: {', '.join(edited)}; run it again" if edited else f"{len(now)} settings, none edited",
        blocking=True,
    )


def _test_is_current(frozen: Sequence[Any], said: dict[str, Any]) -> Check:
    current = bool(frozen) and frozen[-1] == said["test_sha256"]
    return Check(
        "the test is the current one",
        "Is the sealed test of the verdict that of the version frozen last?",
        "passed" if current else "unmeasured",
        f"judged on {said['test_sha256'][:12]}, frozen last {str(frozen[-1])[:12] if frozen else 'none'}",
        blocking=True,
    )


def _adapter_is_there(folder: TaskFolder, said: dict[str, Any]) -> Check:
    wanted = said["adapter_sha256"]
    adapters = [adapter_folder(result.parent) for result in folder.results("train")]
    found = [file_sha256(path) for adapter in adapters for path in sorted(adapter.glob("*.safetensors"))]
    whole = [model_folder(result.parent) for result in folder.results("train")]
    found += [weights_sha256(model) for model in whole if model.is_dir()]
    return Check(
        "the adapter is the one that was judged",
        "Is the adapter with the hash that the ledger holds among the trained ones?",
        "passed" if wanted in found else "unmeasured",
        f"wanted {wanted[:12]}, found {', '.join(sha256[:12] for sha256 in found) or 'none'}",
        blocking=True,
    )
