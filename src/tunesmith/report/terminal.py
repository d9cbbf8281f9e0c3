"""The short version of a run for the terminal: one block per stage, the stage's name in a left column.

Every function returns a rich renderable, so that a stage can be printed when it ends. Texts from data are
never read as markup. Colour only repeats what words say.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from tunesmith.curve_records import DataCurve
from tunesmith.evaluation.forgetting import LM_EVAL, OWN_PROBES
from tunesmith.plan_records import PlannedMethod
from tunesmith.power_records import JointPower, PowerPoint
from tunesmith.records import (
    Candidate,
    CrossfitPlan,
    Decision,
    Estimate,
    Forgetting,
    Manifest,
    Plan,
    Scorecard,
    Verdict,
)
from tunesmith.report import numbers
from tunesmith.run_records import SEED_NOISE, Interference, PilotPower, RunSummary, Training
from tunesmith.stats.paired import FEWEST_GROUPS
from tunesmith.task.kinds import metric_title

STAGE_WIDTH = 10
DECISION_STYLES: dict[Decision, str] = {
    "TRAIN": "bold reverse green",
    "DON'T": "bold reverse red",
    "CANNOT TELL YET": "bold reverse yellow",
}


def print_summary(summary: RunSummary, console: Console, report: Path | None = None) -> None:
    """Print a complete run, stage by stage; ``report`` is where the long version lies."""
    console.print(data_lines(summary.manifest))
    console.print(plan_lines(summary.plan))
    console.print(opponents_lines(summary.opponents, summary.finalists, summary.verdict.metric))
    if summary.pilot is not None:
        console.print(pilot_lines(summary.pilot))
    metric = summary.verdict.metric
    console.print(training_lines(summary.training, summary.tuned_validation.candidate, metric))
    if summary.interference:
        console.print(interference_lines(summary.interference))
    if summary.data_curve is not None:
        console.print(data_curve_lines(summary.data_curve))
    judged_on = numbers.SPLIT_TITLES["test"] if summary.crossfit is None else "all folds"
    console.print(verdict_lines(summary.verdict, summary.test_scorecards, summary.forgetting, judged_on))
    if report is not None:
        console.print(report_line(report))


def stage_block(stage: str, lines: Sequence[RenderableType]) -> Table:
    """``lines`` beside the stage's name; long ones wrap inside their column."""
    block = Table.grid(padding=(0, 1, 0, 0))
    block.add_column(width=STAGE_WIDTH, no_wrap=True)
    block.add_column(overflow="fold")
    for index, line in enumerate(lines):
        name = Text(stage if index == 0 else "", style="bold")
        block.add_row(name, _plain(line) if isinstance(line, str) else line)
    return block


def data_lines(manifest: Manifest) -> RenderableType:
    """Source and licence, rows and groups, splits and version."""
    sources = ", ".join(source.name for source in manifest.sources)
    licence = f" ({manifest.licence})" if manifest.licence else ""
    counts = " · ".join(
        f"{title} {numbers.number(manifest.splits[name].rows)}"
        for name, title in numbers.SPLIT_TITLES.items()
        if name in manifest.splits
    )
    by_input = manifest.recipe.keys() & {"keep_together", "windows"}
    if manifest.folds:
        counts = f"to be used: {counts}; judged: every row in one of {len(manifest.folds)} folds"
    conflicts = (
        f"; {numbers.number(manifest.conflict_groups)} groups hold conflicting labels"
        f"{' for one input: such rows are' if by_input else ':'} not trained on"
        if manifest.labels
        else ""
    )
    lines = [
        f"{manifest.task} from {sources}{licence}",
        f"{numbers.number(manifest.rows)} rows → {numbers.number(manifest.groups)} groups{conflicts}",
        f"{counts}   version {manifest.version[:12]}",
    ]
    if manifest.unmeasured_labels:
        few = numbers.number(len(manifest.unmeasured_labels))
        lines.append(f"{few} of {len(manifest.labels)} labels have too few groups to be tested: unmeasured")
    return stage_block("data", lines)


def plan_lines(plan: Plan) -> RenderableType:
    """What the test can tell, and what the run will take."""
    lines = []
    if plan.power:
        shares = [point.discordant for point in plan.power]
        lines.append(
            f"{numbers.judged_rows(plan)}: 80 % chance of TRAIN from a true gain of "
            f"{_smallest_gains(plan.power)} points on, if {_range(shares, 0)} % of rows tell the two apart"
        )
    else:
        lines.append(
            f"{numbers.judged_rows(plan)} in {numbers.number(plan.test_groups)} groups: what "
            f"they can tell in {metric_title(plan.metric)} is told by a pilot, below or from answers"
        )
    if plan.rows_needed is not None:
        low, high = (numbers.number(rows) for rows in plan.rows_needed)
        judged = "rows" if plan.crossfit is not None and plan.crossfit.chosen else "test rows"
        lines.append(f"{low} to {high} {judged} would tell a gain of the goal from none, 8 times in 10")
    if plan.guards:
        lines.append(_guards_line(plan.guards))
    lines += [
        f"{numbers.about_duration(plan.estimated_opponents_seconds)} for the opponents, "
        f"{numbers.duration(plan.estimated_train_seconds)} for training, "
        f"{numbers.duration(plan.estimated_verdict_seconds)} for the verdict",
        f"about {numbers.memory(plan.estimated_peak_memory_mb)} of "
        f"{numbers.memory(plan.available_memory_mb)} memory; {plan.precision}, "
        f"{numbers.number(plan.tokens_per_second)} tokens/s",
    ]
    if plan.methods:
        lines.append(f"of these for comparison: {'; '.join(map(_planned_method, plan.methods))}")
    if plan.crossfit is not None and not plan.crossfit.chosen:
        lines.append(_proposal(plan, plan.crossfit))
    if not plan.strong_opponents:
        lines.append(
            "no strong opponent is tried: beating prompts of a small base says little; name an endpoint or a "
            "base of 1B parameters or more under opponents"
        )
    if plan.recompute or plan.micro_batch_tokens != Plan.micro_batch_tokens:
        again = ", layers computed again in the backward pass" if plan.recompute else ""
        lines.append(
            f"to fit the memory: {numbers.number(plan.micro_batch_tokens)} tokens, or a row, at a time{again}"
        )
    return stage_block("plan", lines)


def _planned_method(method: PlannedMethod) -> str:
    return (
        f"{method.method} (learning rate {method.learning_rate:g}), "
        f"{numbers.about_duration(method.estimated_seconds)}, "
        f"{numbers.memory(method.estimated_peak_memory_mb)}"
    )


def _proposal(plan: Plan, proposed: CrossfitPlan) -> str:
    smallest = (
        f"{_smallest_gains(proposed.power)} points"
        if proposed.smallest_gain is None
        else f"{numbers.points(proposed.smallest_gain, plan.metric)} of {metric_title(plan.metric)}"
    )
    return (
        f"few rows: {numbers.number(proposed.groups)} groups. With split.test: crossfit every row would be "
        f"judged, by models that did not learn from its group: 80 % chance of TRAIN from "
        f"{smallest} on, and the model to be used learns from all rows. "
        f"It takes {numbers.about_duration(proposed.train_seconds)} of training in {proposed.folds} folds, "
        f"in place of {numbers.duration(plan.estimated_train_seconds)}"
    )


def _smallest_gains(power: Sequence[PowerPoint]) -> str:
    return _range([point.smallest_gain_with_80_percent for point in power], 1)


def opponents_lines(
    scorecards: Sequence[Scorecard], finalists: Sequence[str], metric: str = "accuracy"
) -> RenderableType:
    """The goal's ``metric`` of every opponent on validation; ``finalists`` are candidate ids."""
    return stage_block(
        "opponents", [_values(scorecards, metric, finalists), *_sample(scorecards, metric, "validation")]
    )


def pilot_lines(pilot: PilotPower) -> RenderableType:
    """What the opponents' answers say about the power of the test."""
    smallest = numbers.points(pilot.smallest_gain_with_80_percent, pilot.metric)
    return stage_block(
        "power",
        [
            f"{numbers.number(pilot.groups)} test groups: 80 % chance of TRAIN from a true gain of "
            f"{smallest} of {metric_title(pilot.metric)} on, if answers differ as those of {pilot.better} "
            f"and {pilot.worse} do (pilot: {numbers.number(pilot.pilot_groups)} validation groups); "
            f"{numbers.number(pilot.groups_needed)} groups would tell a gain of the goal from none"
        ],
    )


def training_lines(
    training: Training, candidate: Candidate | None = None, metric: str = "accuracy"
) -> RenderableType:
    """What was trained, how validation loss moved, how fast it went."""
    name = f"{candidate.name}: " if candidate is not None else ""
    share = training.trainable_parameters / training.total_parameters
    lines = [
        f"{name}{numbers.parameters(training.trainable_parameters)} of "
        f"{numbers.parameters(training.total_parameters)} parameters ({numbers.percent(share)})"
    ]
    if training.validation:
        best = next((p for p in training.validation if p.step == training.best_step), training.validation[-1])
        stopped = ", stopped early" if training.stopped_early else ""
        lines.append(
            f"val loss {training.validation[0].loss:.2f} → {best.loss:.2f} at step "
            f"{numbers.number(best.step)} of {numbers.number(training.steps)}{stopped}"
        )
        if best.metric is not None:
            shown = numbers.estimate(best.metric, metric)
            lines.append(f"task metric there: {shown}, n = {_n(best.metric)}")
    if training.course is not None:
        lines.append(numbers.typeset(training.course.sentence))
    if training.seeds is not None:
        lines.append(numbers.seeds(training.seeds))
    if training.long_rows:
        lines.append(numbers.long_rows(training.long_rows))
    lines.append(
        f"{numbers.duration(training.cost.seconds)}, {numbers.number(training.tokens_per_second)} tokens/s, "
        f"{numbers.memory(training.cost.peak_memory_mb)} at most; {training.precision}, "
        f"{training.threads} {'thread' if training.threads == 1 else 'threads'}"
    )
    if training.agreement is not None:
        lines.append(numbers.agreement(training.agreement))
    return stage_block("train", lines)


def interference_lines(changes: Sequence[Interference]) -> RenderableType:
    """How each task of a training of several fares against having been trained alone."""
    return stage_block("", [numbers.interference(change) for change in changes])


def data_curve_lines(curve: DataCurve) -> RenderableType:
    """What more training rows brought, and what twice as many would."""
    return stage_block("", [numbers.data_curve(curve)])


def verdict_lines(
    verdict: Verdict,
    scorecards: Sequence[Scorecard] = (),
    forgetting: Sequence[Forgetting] = (),
    judged_on: str = numbers.SPLIT_TITLES["test"],
) -> RenderableType:
    """The decision and its sentence, test accuracies, gains, forgetting, and what did not pass."""
    headline = Text()
    headline.append(f" {verdict.decision} ", style=DECISION_STYLES[verdict.decision])
    headline.append(" ").append(_plain(numbers.without_decision(verdict)))
    names = {card.candidate.id: card.candidate.name for card in scorecards}
    lines: list[RenderableType] = [headline]
    if scorecards:
        lines += [_values(scorecards, verdict.metric), *_sample(scorecards, verdict.metric, judged_on)]
    lines += [_declining(card) for card in scorecards if "false_accept_rate" in card.metrics]
    lines += [
        f"{numbers.gain(gain, verdict.metric)} over {names.get(gain.opponent, gain.opponent)}"
        for gain in verdict.gains
    ]
    # Each kind ends with its overall change.
    overall = {item.kind: item for item in forgetting}
    asked = [item for item in forgetting if item.domain == OWN_PROBES or item.domain.startswith(LM_EVAL)]
    lines += [_forgetting_line(item) for item in (*overall.values(), *asked)]
    lines += [
        numbers.typeset(f"{check.name}: {check.answer}; {check.evidence}")
        for check in verdict.checks
        if check.name == SEED_NOISE
    ]
    lines += [
        f"{check.answer}, and it must pass: {check.name}"
        for check in verdict.checks
        if check.blocking and check.answer != "passed"
    ]
    return stage_block("verdict", lines)


def _declining(card: Scorecard) -> str:
    """How often "none of these" is missed, and said of rows that a label fits."""
    names = ("false_accept_rate", "false_reject_rate")
    shown = "; ".join(
        f"{metric_title(name).lower()} {numbers.estimate(card.metrics[name])}, n = {_n(card.metrics[name])}"
        for name in names
        if name in card.metrics
    )
    return f"{card.candidate.name}: {shown}"


def report_line(path: Path) -> RenderableType:
    """Where the report lies."""
    return stage_block("report", [str(path)])


def _forgetting_line(item: Forgetting) -> str:
    reason = numbers.unmeasured_because(item)
    if reason is not None:
        return f"{item.domain}: unmeasured, {reason}"
    interval = numbers.bounds(item.change.low, item.change.high)
    margin = f"; margin {numbers.number(100 * item.margin, 1)}" if item.margin is not None else ""
    unit = "% bits per byte" if item.kind == "text" else "points of accuracy"
    change = numbers.signed(100 * item.change.value)
    return f"{item.domain}: {change} {interval} {unit}, n = {numbers.number(item.items)}{margin}"


def _values(cards: Sequence[Scorecard], metric: str, finalists: Sequence[str] = ()) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for card in cards:
        value = card.metrics.get(metric)
        mark = " (finalist)" if card.candidate.id in finalists else ""
        if card.stopped_after_rows is not None:
            finalist = "finalist, " if card.candidate.id in finalists else ""
            mark = f" ({finalist}clearly behind: {card.stopped_after_rows} rows)"
        if card.cost.spend:
            mark += f", {card.cost.spend:.4f} spent"
        if (unparsed := card.metrics.get("unparsed")) is not None:
            mark += f", {numbers.estimate(unparsed)} no label"
        shown = numbers.estimate(value, metric) if value else "unmeasured"
        table.add_row(_plain(shown), _plain(card.candidate.name + mark))
    return table


def _sample(cards: Sequence[Scorecard], metric: str, on: str) -> list[str]:
    """The metric, where it is not accuracy, the rows it is ``on`` and the n of the values of ``cards``."""
    measured = [e for card in cards if (e := card.metrics.get(metric)) is not None]
    if not measured:
        return []
    first = measured[0]
    sample = numbers.sample(first.rows, first.groups)
    named = "" if metric == "accuracy" else f"{metric_title(metric)} on "
    return [f"({named}{on}: {sample}; {numbers.level(first.level)} intervals)"]


def _n(value: Estimate) -> str:
    return numbers.sample(value.rows, value.groups)


def _range(shares: Sequence[float], digits: int) -> str:
    low, high = (numbers.number(100 * share, digits) for share in (min(shares), max(shares)))
    return low if low == high else f"{low} to {high}"


def _plain(text: str) -> Text:
    """Text that is never read as markup, with ordinary spaces, for copying and searching."""
    return Text(text.replace("\u00a0", " "))


def _guards_line(planned: Sequence[JointPower]) -> str:
    """The chance that all blocking guards pass, and which one is the least likely to."""
    calm = planned[0].guards
    chances = [joint.if_independent for joint in planned]
    told = (
        f"a model as good as its base and its opponent passes all {len(calm)} blocking guards with a "
        f"chance of {_range(chances, 0)} %"
    )
    hopeless = [guard for guard in calm if guard.groups < FEWEST_GROUPS]
    if hopeless:
        named = ", ".join(f"{guard.guard} ({guard.groups})" for guard in hopeless)
        return f"{told}; fewer than {FEWEST_GROUPS} groups can never pass: {named}"
    weakest = min(range(len(calm)), key=lambda place: planned[-1].guards[place].chance_if_unchanged)
    singly = [joint.guards[weakest].chance_if_unchanged for joint in planned]
    return f"{told}; the weakest is {calm[weakest].guard}, {_range(singly, 0)} %"
