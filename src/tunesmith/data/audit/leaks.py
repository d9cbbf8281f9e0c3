"""What gives the answer away: rows shared by given splits, benchmarks, answers in inputs, telling columns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tunesmith.data.audit.classifier import group_folds
from tunesmith.data.audit.findings import AuditData, CheckResult, Finding, answered
from tunesmith.data.duplicates import compared_text, words
from tunesmith.data.leaks import leak_partners
from tunesmith.records import Row, SplitName
from tunesmith.stats.clusters import Codes, Floats, group_codes
from tunesmith.stats.intervals import mean_interval, proportion_interval

CHECK = "leaks"
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
FOLDS = 5
TELLING_GAIN = 0.2  # above the majority class; a column that explains less is a feature, not a leak
SHORTEST_ANSWER = 4  # characters: shorter targets occur in texts by chance
ANSWER_SHARE = 0.5  # of the rows of a target that name it, from which on the target is given away
LABELS_SHOWN = 5


def check_leaks(data: AuditData) -> CheckResult:
    """Rows shared by given splits or with benchmarks, targets in inputs, columns that tell the label."""
    asked = []
    findings = []
    if len({split for split in data.splits if split is not None}) > 1:
        asked.append("given splits")
        findings += _between_splits(data)
    for name, rows in data.benchmarks.items():
        asked.append(f"benchmark {name}")
        findings += _in_benchmark(data, name, rows)
    # Fields and answers are looked up in the input: there they rightly stand in it.
    if data.kind not in ("extract", "answer"):
        asked.append("targets in inputs")
        findings += _targets_in_inputs(data)
    if data.fields:
        asked.append(f"{len(data.fields)} other columns")
        findings += _telling_columns(data)
    leaking = len({row for finding in findings for row in finding.rows})
    if not asked:
        told = "no given splits, benchmarks or other columns to look at; targets rightly stand in inputs"
        return CheckResult(CHECK, "unmeasured", f"{told} with kind: {data.kind}")
    summary = f"looked at {', '.join(asked)}: " + (
        f"{len(findings)} findings, {leaking:,} rows" if findings else "nothing gives the answer away"
    )
    return answered(CHECK, summary, findings)


def _between_splits(data: AuditData) -> list[Finding]:
    # The test first and train last: every row that says the same as one of a later split is found, and it is
    # the earlier split that gives way.
    order = [index for name in reversed(SPLITS) for index, split in enumerate(data.splits) if split == name]
    splits = [str(data.splits[index]) for index in order]
    rows = [Row("", f"row {i}", data.rows[i].messages, data.rows[i].target) for i in order]
    partners = leak_partners(rows, splits, data.similarity, data.shingle_words)
    if not partners:
        return []
    pairs = Counter((splits[leaving], splits[kept]) for leaving, (kept, _) in partners.items())
    shown = ", ".join(f"{count:,} of {leaving} in {kept}" for (leaving, kept), count in pairs.items())
    return [
        Finding(
            "in two given splits",
            "error",
            tuple(sorted(order[leaving] for leaving in partners)),
            f"{len(partners):,} rows say the same as a row of another split: {shown}",
            "drop",
        )
    ]


def _in_benchmark(data: AuditData, name: str, rows: Sequence[Row]) -> list[Finding]:
    # The benchmark stands first, so that the partners found are rows of the data.
    both = [
        *(Row("", f"{name}:{i}", row.messages, row.target) for i, row in enumerate(rows)),
        *(Row("", f"row {i}", row.messages, row.target) for i, row in enumerate(data.rows)),
    ]
    splits = ["benchmark"] * len(rows) + ["data"] * len(data.rows)
    found = sorted(
        index - len(rows) for index in leak_partners(both, splits, data.similarity, data.shingle_words)
    )
    if not found:
        return []
    evidence = f"{len(found):,} rows say the same as one of the {len(rows):,} rows of {name}"
    return [Finding(f"in benchmark {name}", "error", tuple(found), evidence, "drop")]


def _targets_in_inputs(data: AuditData) -> list[Finding]:
    """Targets that most of their rows name literally, and the rows that do."""
    by_target: dict[str, list[int]] = {}
    for index, row in enumerate(data.rows):
        by_target.setdefault(row.target, []).append(index)
    told: dict[str, list[int]] = {}
    named: list[bool] = []
    groups: list[str] = []
    for target, members in by_target.items():
        phrase = " ".join(words(target.replace("_", " ")))
        if len(phrase) < SHORTEST_ANSWER:
            continue
        pattern = re.compile(rf"\b{re.escape(phrase)}\b")
        hits = [
            index
            for index in members
            if pattern.search(" ".join(words(compared_text(data.rows[index]).replace("_", " "))))
        ]
        hit = set(hits)
        named += [index in hit for index in members]
        groups += [data.rows[index].group or str(index) for index in members]
        if len(hits) >= max(2, ANSWER_SHARE * len(members)) or (len(members) == 1 and hits):
            told[target] = hits
    rows = [index for hits in told.values() for index in hits]
    if not rows:
        return []
    estimate = proportion_interval(named, groups)
    worst = sorted(told, key=lambda target: (-len(told[target]), target))[:LABELS_SHOWN]
    shown = ", ".join(
        f"'{target[:60]}' ({len(told[target]):,} of {len(by_target[target]):,})" for target in worst
    )
    # One target named by its rows is a clue; nearly all of them is a leak.
    severity = "error" if estimate.low > ANSWER_SHARE else "note"
    return [
        Finding(
            "target in the input",
            "error" if severity == "error" else "note",
            tuple(sorted(rows)),
            f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}] of {estimate.rows:,} rows name "
            f"their own target; it is in most rows of {len(told):,} targets: {shown}",
            "ask" if severity == "error" else "keep",
        )
    ]


def _telling_columns(data: AuditData) -> list[Finding]:
    """Columns whose value alone predicts held-out targets much better than the majority class does."""
    targets = [row.target for row in data.rows]
    groups = [row.group or str(index) for index, row in enumerate(data.rows)]
    fold = group_folds(groups, targets, FOLDS)
    # Numbered in their order, so that of equally frequent targets the first by name is the smallest number.
    number = {name: place for place, name in enumerate(sorted(set(targets)))}
    target = np.array([number[name] for name in targets], np.intp)
    findings = []
    for name, values in data.fields.items():
        filled = [index for index, value in enumerate(values) if value is not None and value.strip()]
        if len({groups[index] for index in filled}) < 50:
            continue
        value = group_codes([str(values[index]) for index in filled])
        by_value, by_majority = _held_out(value, target[filled], fold[filled])
        own = [groups[index] for index in filled]
        gain = mean_interval(by_value - by_majority, own, limits=(-1.0, 1.0))
        if gain.low <= TELLING_GAIN:
            continue
        right = proportion_interval(by_value, own)
        findings.append(
            Finding(
                f"column {name} gives the label away",
                "error" if right.low > 0.9 else "warning",
                tuple(filled),
                f"'{name}' alone predicts {right.value:.1%} [{right.low:.1%}, {right.high:.1%}] of "
                f"{right.rows:,} held-out targets, {100 * gain.value:.0f} points [{100 * gain.low:.0f}, "
                f"{100 * gain.high:.0f}] more than the majority class: keep it out of the input",
                "keep",
            )
        )
    return findings


def _held_out(value: Codes, target: Codes, fold: Codes) -> tuple[Floats, Floats]:
    """Whether the most frequent target of a row's value, and of all rows, is right; by the other folds.

    All of shape (rows,). A value that the other folds lack gets the most frequent target of all.
    """
    by_value, by_majority = np.zeros(len(target)), np.zeros(len(target))
    pairs, pair = np.unique(value * (target.max() + 1) + target, return_inverse=True)
    values, targets = np.divmod(pairs, target.max() + 1)
    for held_out in range(FOLDS):
        asked = fold == held_out
        if asked.all():
            continue
        majority = int(np.bincount(target[~asked], minlength=1).argmax())
        times = np.bincount(pair[~asked], minlength=len(pairs))
        # Of each value the most frequent target last, and of equally frequent ones the first by name.
        order = np.lexsort((-targets, times, values))
        order = order[times[order] > 0]
        answers = np.full(value.max() + 1, majority)
        answers[values[order]] = targets[order]
        by_majority[asked] = target[asked] == majority
        by_value[asked] = target[asked] == answers[value[asked]]
    return by_value, by_majority
