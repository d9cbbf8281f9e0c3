"""The repair plan: a YAML file that says what to do about each kind of finding, for people to edit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import yaml

from tunesmith.data.audit.findings import PRIVATE_CHECKS, AuditData, CheckResult, Finding, Repair
from tunesmith.data.audit.texts import text_of
from tunesmith.errors import UserError
from tunesmith.records import SplitName

EXAMPLES = 3
EXCERPT_CHARACTERS = 70
REPAIRS: tuple[Repair, ...] = get_args(Repair)

_HEADER = """\
# What to do about each finding of the data audit; edit it and keep it beside the task file.
#   keep       leave the rows as they are
#   fix        give the rows the proposed text or label
#   drop       remove the rows
#   set_aside  remove the rows, but keep them in a file of their own
#   ask        put the rows into the review queue, and leave them as they are until a person has answered
# Only training rows are changed. Rows of validation and test that a repair would change go into the review
# queue: dropping suspected errors from a test makes every result look better than it is.
"""


@dataclass(frozen=True)
class RepairPlan:
    """What to do, by check and kind of finding."""

    repairs: dict[str, dict[str, Repair]]

    def repair(self, check: str, kind: str) -> Repair:
        """What the plan says about one kind of finding."""
        return self.repairs[check][kind]


def plan_text(
    task: str, results: Sequence[CheckResult], data: AuditData, splits: Mapping[str, SplitName]
) -> str:
    """The plan that the checks propose, with counts and up to three examples in comments.

    ``splits`` gives the split of a row by its id; examples are training rows only.
    """
    lines = [f"# Repair plan of the task {task}: {len(data.rows):,} rows audited.", _HEADER, "repairs:"]
    for result in results:
        lines += ["", f"  # {_one_line(result.summary)}"]
        if not result.findings:
            lines.append(f"  {result.check}: {{}}  # {result.answer}: nothing to repair")
            continue
        lines.append(f"  {result.check}:  # {result.answer}")
        for kind, findings in _by_kind(result).items():
            for finding in findings:
                train = [row for row in finding.rows if splits.get(data.rows[row].id) == "train"]
                lines.append(
                    f"    # {_one_line(finding.evidence)} ({finding.severity}; {len(finding.rows):,} rows, "
                    f"{len(train):,} of them in train)"
                )
                lines += [f"    #   {example}" for example in _examples(result.check, finding, train, data)]
            fixable = all(finding.fixed is not None for finding in findings)
            choices = [name for name in REPAIRS if name != "fix" or fixable]
            entry = yaml.safe_dump({kind: findings[0].repair}, width=10**9, allow_unicode=True).strip()
            lines.append(f"    {entry}  # {' | '.join(choices)}")
    return "\n".join(lines) + "\n"


def _by_kind(result: CheckResult) -> dict[str, list[Finding]]:
    """One kind may be found several times (each misspelt label, each turn); a plan has one line for it."""
    found: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in result.findings:
        found[finding.kind].append(finding)
    return found


def read_plan(path: Path, results: Sequence[CheckResult]) -> RepairPlan:
    """The plan in a file, checked against what the audit found.

    A kind that is in the plan and was not found any more does nothing. Raises UserError when the file is no
    plan, for a word that is no repair, for a ``fix`` where nothing is proposed, and for a finding that the
    plan does not mention.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        repeated = _repeated(yaml.compose(text, yaml.SafeLoader))
    except OSError as error:
        raise UserError(
            f"{path}: the repair plan cannot be read: {error.strerror}",
            "write one with `tunesmith data plan TASK`",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: broken YAML: {_one_line(str(error))}", "correct that place, or write the plan again"
        ) from None
    if repeated:
        raise UserError(
            f"{path}: {repeated} stands there twice, and only one of them could count", "leave one of them"
        )
    repairs = content.get("repairs") if isinstance(content, dict) else None
    if not isinstance(repairs, dict):
        raise UserError(f"{path}: no `repairs:` there", "write a plan with `tunesmith data plan TASK`")
    read: dict[str, dict[str, Repair]] = {}
    for check, kinds in repairs.items():
        if kinds is not None and not isinstance(kinds, dict):
            raise UserError(
                f"{path}: repairs.{check} holds {kinds!r}", "give it one line a finding, as the plan had"
            )
        read[str(check)] = {
            str(kind): _repair(path, check, kind, word) for kind, word in (kinds or {}).items()
        }
    _check_complete(path, read, results)
    return RepairPlan(read)


def _repeated(node: yaml.Node | None, above: str = "", levels: int = 3) -> str | None:
    """The first key that is there twice in one mapping, with the keys above it."""
    if not isinstance(node, yaml.MappingNode) or not levels:
        return None
    seen = set()
    for key, value in node.value:
        name = f"{above}{key.value}"
        if name in seen:
            return name
        seen.add(name)
        if (below := _repeated(value, f"{name}.", levels - 1)) is not None:
            return below
    return None


def _repair(path: Path, check: object, kind: object, word: object) -> Repair:
    for repair in REPAIRS:
        if word == repair:
            return repair
    raise UserError(
        f"{path}: repairs.{check}.{kind}: {word!r} is no repair", f"use one of {', '.join(REPAIRS)}"
    )


def _check_complete(
    path: Path, repairs: Mapping[str, Mapping[str, Repair]], results: Sequence[CheckResult]
) -> None:
    missing = []
    for result in results:
        for finding in result.findings:
            said = repairs.get(result.check, {}).get(finding.kind)
            if said is None:
                missing.append(f"{result.check}: {finding.kind} ({len(finding.rows):,} rows)")
            elif said == "fix" and finding.fixed is None:
                raise UserError(
                    f"{path}: repairs.{result.check}.{finding.kind}: nothing is proposed that could fix it",
                    f"use one of {', '.join(name for name in REPAIRS if name != 'fix')}",
                )
    if missing:
        raise UserError(
            f"{path}: the audit found what the plan does not mention: {'; '.join(missing[:10])}",
            "add a line for each (keep leaves the rows as they are), or write the plan again",
        )


def _examples(check: str, finding: Finding, train: Sequence[int], data: AuditData) -> list[str]:
    """Up to three training rows; of private data and secrets only what a repair leaves of them."""
    proposed = dict(zip(finding.rows, finding.fixed or (), strict=False))
    shown = []
    for index in train[:EXAMPLES]:
        row, fixed = data.rows[index], proposed.get(index)
        before = text_of(row, finding.field or "target", finding.turn, finding.column)
        if check in PRIVATE_CHECKS:
            text = "" if fixed is None else f"=> {_around(fixed, _first_difference(before, fixed))}"
        elif fixed is None:
            text = f"{_around(row.text)} -> {_around(row.target)}"
        elif finding.field in ("input", "rejected"):
            place = _first_difference(before, fixed)
            text = f"{_around(before, place)} => {_around(fixed, place)}"
        else:
            text = f"{_around(row.text)} -> {_around(row.target)} => {_around(fixed)}"
        shown.append(f"{row.source}: {text}".rstrip(" :"))
    return shown


def _first_difference(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _around(text: str, place: int = 0) -> str:
    """An excerpt that holds what stands at ``place``."""
    start = 0 if place < EXCERPT_CHARACTERS // 2 else place - EXCERPT_CHARACTERS // 3
    line = _one_line(text[start:])
    cut = line if len(line) <= EXCERPT_CHARACTERS else line[: EXCERPT_CHARACTERS - 1] + "…"
    return f"…{cut}" if start else cut


def _one_line(text: str) -> str:
    """Fit for a YAML comment: one line, no control characters."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())
