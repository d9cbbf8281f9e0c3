"""Guards, costs and the next step for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType

from tunesmith.evaluation.robustness import MEAN
from tunesmith.guard_records import Guarded
from tunesmith.records import Estimate
from tunesmith.report import numbers
from tunesmith.report.people_terminal import people_lines
from tunesmith.report.terminal import stage_block
from tunesmith.run_records import RunSummary
from tunesmith.task.kinds import GOAL_METRICS, metric_title

PHRASES_TOLD = 2


def guard_lines(guarded: Guarded) -> RenderableType:
    """The worst and the mean attack, exchanged groups, and the slices that are worse than the rest."""
    lines: list[str] = []
    if guarded.metric != "accuracy":
        lines.append(f"scores of single rows: {metric_title(guarded.metric)}")
    measured = [(one, one.gain) for one in guarded.attacks if one.gain is not None and one.tuned is not None]
    shown = [pair for pair in measured if pair[0].name == MEAN]
    single = [pair for pair in measured if pair[0].name != MEAN]
    if single:
        shown.append(min(single, key=lambda pair: pair[0].tuned.value if pair[0].tuned else 1.0))
    for score, gain in shown:
        which = "spoiled inputs, mean" if score.name == MEAN else f"worst attack: {score.name}"
        assert score.tuned is not None  # only measured ones are shown
        lines.append(
            f"{which}: {numbers.estimate(score.tuned)}, {numbers.gain(gain)} over {guarded.opponent} on the "
            f"same, n = {numbers.number(gain.rows)}"
        )
    if guarded.swaps:
        what = "answers" if guarded.metric == "accuracy" else "the wording (1 − chrF)"
        what = "the labels (1 − Jaccard)" if guarded.metric in GOAL_METRICS["tag"] else what
        lines.append(
            f"exchanged groups of people: {numbers.estimate(guarded.swaps.tuned)} of {what} changed, "
            f"n = {numbers.number(guarded.swaps.tuned.rows)}"
        )
    flagged = [score for score in guarded.validation_slices if score.flagged]
    tested = [score for score in guarded.validation_slices if score.p_adjusted is not None]
    names = "; ".join(f"{score.name} {numbers.estimate(score.tuned)}" for score in flagged)
    lines.append(
        f"{len(flagged)} of {len(tested)} slices of validation are surely worse than the rest"
        + (f": {names}" if flagged else "")
    )
    if guarded.prompted is not None:
        lines.append(numbers.prompted(guarded.prompted))
    return stage_block("guards", [*lines, *_text_lines(guarded)])


def _text_lines(guarded: Guarded) -> list[str]:
    """What is measured of written texts only."""
    lines = [
        f"{metric_title(score.metric).lower()}: {numbers.estimate(score.tuned)}, right answers "
        f"{numbers.estimate(score.references)}, {guarded.opponent} {numbers.estimate(score.opponent)}"
        for score in guarded.grounding
    ]
    if guarded.copying is not None:
        lines.append(
            f"longest run in a training answer: {_words(guarded.copying.tuned)} words on average, of "
            f"right answers {_words(guarded.copying.references)}, n = "
            f"{numbers.number(guarded.copying.tuned.rows)}"
        )
        first = "; ".join(
            f"“{one.phrase}” {numbers.estimate(one.answers)}, right answers "
            f"{numbers.estimate(one.references)}"
            for one in guarded.stock_phrases[:PHRASES_TOLD]
        )
        lines.append(f"{len(guarded.stock_phrases)} stock phrases" + (f": {first}" if first else ""))
    return lines


def _words(length: Estimate) -> str:
    return (
        f"{numbers.number(length.value, 1)} "
        f"[{numbers.number(length.low, 1)}, {numbers.number(length.high, 1)}]"
    )


def closing_lines(summary: RunSummary) -> RenderableType:
    """When fine-tuning pays, what people said, and the one thing that is worth most next."""
    blocks = []
    if summary.costs is not None and summary.costs.break_even:
        sentences = [one.sentence for one in summary.costs.break_even]
        blocks.append(stage_block("cost", [sentence[:1].upper() + sentence[1:] for sentence in sentences]))
    if summary.people is not None:
        blocks.append(stage_block("people", people_lines(summary.people)))
    if summary.guarded is not None:
        troubles = [step for step in summary.guarded.steps if step.answer == "failed"]
        if troubles:
            step, metric = troubles[0], summary.guarded.metric
            unit = "of rows" if metric == "accuracy" else f"of {metric_title(metric)}"
            worth = f"at most {numbers.estimate(step.worth)} {unit}: " if step.worth else ""
            blocks.append(stage_block("next", [step.advice, f"({worth}{numbers.typeset(step.evidence)})"]))
        else:
            blocks.append(stage_block("next", ["no trouble was found on validation that a step would mend"]))
    return Group(*blocks)
