"""How numbers are written for people: real minus signs, grouped thousands, intervals in brackets.

Shares (0.888) are shown as per cent, differences between shares as points. The space before a per cent sign
does not break.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from tunesmith.curve_records import DataCurve
from tunesmith.guard_records import PromptedTuned
from tunesmith.method_records import MethodComparison
from tunesmith.records import AuditAnswer, Estimate, Forgetting, PairedGain, Plan, SplitName, Verdict
from tunesmith.run_records import Agreement, Interference, LongRow, SeedStudy
from tunesmith.stats.paired import FEWEST_GROUPS
from tunesmith.task.kinds import is_share

LONG_ROWS_LISTED = 10
RAW_DIGITS = 3  # of metrics that are no shares
SPLIT_TITLES: dict[SplitName, str] = {"train": "train", "validation": "validation", "test": "sealed test"}


def number(value: float, digits: int = 0) -> str:
    """``value`` with grouped thousands; a rounded zero carries no sign."""
    text = f"{value:,.{digits}f}"
    if not text.strip("-0.,"):
        text = text.lstrip("-")
    return text.replace("-", "−")


def parameters(count: int) -> str:
    """``4.9 M``; a count too small for that as it is, ``34,560``."""
    return number(count) if count < 1_000_000 else f"{number(count / 1e6, 1)} M"


def judged_rows(plan: Plan) -> str:
    """``1,200 test rows``, or ``812 rows, each judged in one of 5 folds``."""
    if plan.crossfit is not None and plan.crossfit.chosen:
        return f"{number(plan.test_rows)} rows, each judged in one of {plan.crossfit.folds} folds"
    return f"{number(plan.test_rows)} test rows"


def digits(value: float, most: int = 3) -> str:
    """``value`` with three digits that count, however small or large: 0.000958, 6.68, 1,370."""
    if value == 0 or not math.isfinite(value):
        return number(value)
    return number(value, max(0, most - 1 - math.floor(math.log10(abs(value)))))


def signed(value: float, digits: int = 1) -> str:
    """``value`` with its sign always shown, except a rounded zero."""
    text = number(value, digits)
    return text if text.startswith("−") or not text.strip("0.,") else f"+{text}"


def percent(value: float, digits: int = 1) -> str:
    """A share as per cent: 0.888 is ``88.8 %``."""
    return f"{number(100 * value, digits)}\u00a0%"


def bounds(low: float, high: float, digits: int = 1) -> str:
    """The interval of a share, without its unit: ``[86.9, 90.5]``."""
    return f"[{number(100 * low, digits)}, {number(100 * high, digits)}]"


def estimate(value: Estimate, metric: str = "accuracy") -> str:
    """A metric and its interval: ``88.8 % [86.9, 90.5]``; one that is no share: ``1.204 [1.130, 1.281]``."""
    return f"{amount(value.value, metric)} {interval(value, metric)}"


def amount(value: float, metric: str = "accuracy") -> str:
    """A value of a metric, in per cent where it is a share."""
    return percent(value) if is_share(metric) else number(value, RAW_DIGITS)


def interval(value: Estimate, metric: str = "accuracy") -> str:
    """The interval of a metric, in the unit of :func:`amount`."""
    if is_share(metric):
        return bounds(value.low, value.high)
    return f"[{number(value.low, RAW_DIGITS)}, {number(value.high, RAW_DIGITS)}]"


def points(value: float, metric: str = "accuracy") -> str:
    """A difference between two values of a metric: ``+4.4 points``, or ``+0.120`` of one that is no share."""
    return f"{signed(100 * value)} points" if is_share(metric) else signed(value, RAW_DIGITS)


def gain(value: PairedGain, metric: str = "accuracy") -> str:
    """A paired gain and its interval, or that there is none."""
    if value.low is None or value.high is None:
        return f"{points(value.value, metric)}, interval unmeasured"
    return f"{points(value.value, metric)} {gain_bounds(value.low, value.high, metric)}"


def gain_bounds(low: float, high: float, metric: str = "accuracy") -> str:
    """The interval of a gain, in the unit of :func:`points`."""
    if is_share(metric):
        return bounds(low, high)
    return f"[{number(low, RAW_DIGITS)}, {number(high, RAW_DIGITS)}]"


def agreement(value: Agreement) -> str:
    """How closely the log-probabilities of the tuned model agree with those others compute."""
    adapter = "" if value.peft is None else f"{value.peft:.1g} nats from PEFT's arithmetic and "
    weights = "the saved model's" if value.peft is None else "those of merged weights"
    return (
        f"saved and read back: log-probabilities of {number(value.rows)} answers are at most {adapter}"
        f"{value.merged:.1g} nats from {weights}"
    )


def seeds(study: SeedStudy) -> str:
    """How much several seeds differ on validation, and which of them went on."""
    mean, spread = study.mean, study.spread
    listed = ", ".join(str(run.seed) for run in study.runs)
    return (
        f"{number(len(study.runs))} seeds ({listed}): {study.metric} on validation {estimate(mean)} on "
        f"average, standard deviation {number(100 * spread.value, 1)} {bounds(spread.low, spread.high)} "
        f"points over seeds; seed {study.chosen} goes to the test ({study.rule})"
    )


def interference(value: Interference) -> str:
    """How one task of a training of several fares against having been trained alone."""
    together = value.together
    aside = f", {number(value.left_out)} left out as they are like this task's" if value.left_out else ""
    head = (
        f"{value.task} ({number(value.rows)} training rows{aside}, {percent(value.share)} of an epoch), "
        "together: "
        f"{estimate(together)} accuracy on validation, {sample(together.rows, together.groups)}"
    )
    if value.change is None or value.alone is None:
        return f"{head}; against alone: unmeasured, {value.reason}"
    return f"{head}; alone {estimate(value.alone)}; change {gain(value.change)}"


def data_curve(curve: DataCurve) -> str:
    """What more training rows brought on validation, and what twice as many would bring."""
    steps = "; ".join(
        f"{percent(point.share)} of the groups ({number(point.rows)} rows) {estimate(point.score)}"
        for point in curve.points
    )
    told = f"trained on {steps} {curve.metric} on validation. The second half brought {gain(curve.doubling)}"
    if curve.doubled is None:
        return f"{told}; what twice the rows would bring is not extrapolated in this metric"
    more = curve.doubled
    return (
        f"{told}; twice the rows would bring about {number(100 * more.value, 1)} points "
        f"{bounds(more.low, more.high)}, if the curve goes on as a power law"
    )


def forgotten(change: Estimate) -> str:
    """A relative change of the bits for general text: ``+1.2 % [0.8, 1.6]``, more is worse."""
    return f"{signed(100 * change.value)}\u00a0% {bounds(change.low, change.high)}"


def loss_gap(gap: Estimate) -> str:
    """By how much the loss is lower on training rows, in nats per token."""
    return f"{signed(gap.value, 3)} [{number(gap.low, 3)}, {number(gap.high, 3)}]"


def methods_compared(comparison: MethodComparison) -> str:
    """What methods were compared on, how it was measured, and what it does not tell."""
    first = comparison.lines[0]
    best = (
        f" The chosen one is the best of {comparison.seeds} seeds, each other one a single seed: that alone "
        "can make a small difference."
        if comparison.seeds > 1
        else ""
    )
    timed = f", asked alone (n = {number(first.latency.rows)})" if first.latency else ""
    text = next((line.forgetting for line in comparison.lines if line.forgetting), None)
    texts = f" (n = {sample(text.rows, text.groups)})" if text else ""
    gap = f" (n = {number(first.loss_gap.rows)} rows of both)" if first.loss_gap else ""
    return (
        f"Each was trained here on the same rows, seed {comparison.seed} and at most "
        f"{comparison.epochs:g} epochs, at its own learning rate, which was not searched. Scores and paired "
        f"gains are of validation, {sample(first.score.rows, first.score.groups)}, "
        f"{level(first.score.level)} intervals; the sealed test is opened for the chosen method only.{best} "
        f"Time of a request{timed}; general text: change of bits per byte since the base{texts}; loss gap: "
        f"by how many nats per token the loss is lower on training rows than on validation{gap}."
    )


def prompted(value: PromptedTuned) -> str:
    """What the best prompt of its base still brings the tuned model."""
    told = gain(value.gain)
    if value.gain.low is None or value.gain.high is None or value.gain.low <= 0 <= value.gain.high:
        seen = "which proves no difference"
    else:
        seen = "so it still needs the prompt" if value.gain.low > 0 else "so it is better without"
    return (
        f"with its base's best prompt ({value.prompt}) the tuned model reaches {estimate(value.prompted)}, "
        f"without it {estimate(value.plain)}: {told}, {seen} (validation, "
        f"{sample(value.gain.rows, value.gain.groups)})"
    )


def sample(rows: int, groups: int) -> str:
    """The n behind an estimate; 0 groups means that the rows were not grouped."""
    if not groups:
        return f"{number(rows)} rows"
    return f"{number(rows)} rows in {number(groups)} groups"


def duration(seconds: float) -> str:
    """A time span in the two largest units that matter."""
    if seconds < 0.05:
        return "under 0.1 s"
    if seconds < 9.95:
        return f"{number(seconds, 1)} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{number(whole // 3600)} h {whole % 3600 // 60:02d} min"


def about_duration(seconds: float) -> str:
    """An estimated time span."""
    told = duration(seconds)
    return told if told.startswith("under") else f"about {told}"


def milliseconds(seconds: float) -> str:
    """A short time, for one row."""
    return "under 0.1 ms" if seconds < 0.00005 else f"{number(1000 * seconds, 1)} ms"


def memory(megabytes: float) -> str:
    """Memory or file size from megabytes."""
    return f"{number(megabytes)} MB" if megabytes < 1000 else f"{number(megabytes / 1000, 1)} GB"


def size(size_bytes: int) -> str:
    """A file size from bytes."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    return f"{number(size_bytes / 1000)} kB" if size_bytes < 1_000_000 else memory(size_bytes / 1e6)


def ordinal(position: int) -> str:
    """1 is ``1st``, 2 is ``2nd``, 11 is ``11th``."""
    suffix = "th" if position % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(position % 10, "th")
    return f"{position}{suffix}"


def level(share: float) -> str:
    """A confidence or error level without needless zeros: 0.95 is ``95 %``, 0.0127 is ``1.27 %``."""
    text = f"{100 * share:.2f}".rstrip("0").rstrip(".")
    return f"{text}\u00a0%"


def typeset(text: str) -> str:
    """A sentence made elsewhere, with real minus signs and an unbreakable space before per cent signs."""
    return re.sub(r"(\d) ?%", "\\1\u00a0%", re.sub(r"(?<![\w−-])-(?=\d)", "−", text))


def without_decision(verdict: Verdict) -> str:
    """The verdict's sentence without the decision it may begin with, for use after a headline."""
    text = verdict.sentence.removeprefix(f"{verdict.decision}. ").removeprefix(f"{verdict.decision} train: ")
    return text[:1].upper() + text[1:]


def long_rows(rows: Sequence[LongRow]) -> str:
    """How many training rows were too long, and what became of them: counted and listed."""
    dropped = [row for row in rows if row.kept_tokens is None]
    cut = [row for row in rows if row.kept_tokens is not None]
    parts = []
    for count, word, group in ((len(dropped), "left out", dropped), (len(cut), "cut", cut)):
        if count:
            shown = ", ".join(row.source for row in group[:LONG_ROWS_LISTED])
            more = f" and {number(count - LONG_ROWS_LISTED)} more" if count > LONG_ROWS_LISTED else ""
            parts.append(f"{number(count)} {word} ({shown}{more})")
    return f"training rows of too many tokens: {'; '.join(parts)}"


def unmeasured_because(item: Forgetting) -> str | None:
    """Why nothing can be said about a change; None when something can."""
    if item.at_chance:
        return "base at chance"
    if item.change.groups < FEWEST_GROUPS:
        return f"fewer than {FEWEST_GROUPS} groups"
    return None


def audit_in_words(checks: Sequence[AuditAnswer]) -> str:
    """ "20 passed; 2 failed (labels: 12 rows, leaks: 1 row); 4 unmeasured".

    Of findings that are about no row, such as records that are none, the findings are counted.
    """
    parts = []
    for word in ("passed", "failed", "unmeasured"):
        of_word = [check for check in checks if check.answer == word]
        named = f" ({', '.join(_found_rows(check) for check in of_word)})" if word == "failed" else ""
        parts += [f"{len(of_word)} {word}{named}"] if of_word else []
    return "; ".join(parts)


def _found_rows(check: AuditAnswer) -> str:
    counted, one = (check.rows, "row") if check.rows else (check.findings, "finding")
    return f"{check.check}: {number(counted)} {one}{'' if counted == 1 else 's'}"
