"""The report: one self-contained HTML file from one RunSummary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tunesmith.evaluation.costs import LABOUR
from tunesmith.evaluation.robustness import MEAN
from tunesmith.files import write_text
from tunesmith.records import Candidate, Cost, Manifest, Scorecard
from tunesmith.report import curves, figures, numbers
from tunesmith.report.drawing import NARROW, WIDE
from tunesmith.run_records import RunSummary
from tunesmith.task.kinds import LABELLED, SMALLER_IS_BETTER, TITLES, is_share, metric_title

RULES = {
    "estimate": "TRAIN when, over every finalist, the gain reaches the goal and its interval is above zero",
    "margin": "TRAIN when, over every finalist, the whole interval of the gain reaches the goal",
}
LONGEST_EXAMPLE = 700
LONG_ROWS_SHOWN = 50
STOCK_PHRASES_SHOWN = 10
COMMENTS_SHOWN = 20


@dataclass(frozen=True)
class Comparison:
    """One line of "planned and happened", both already in words."""

    what: str
    planned: str
    happened: str
    ratio: float | None


@dataclass(frozen=True)
class StageCost:
    """What one stage took; None where it does not run a candidate."""

    name: str
    seconds: float
    cost: Cost | None


def write_report(summary: RunSummary, path: Path) -> None:
    """Write the report of a complete run to ``path``, atomically; equal summaries give equal bytes.

    The file loads nothing: styles and figures are inside. Everything that came from data is escaped.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": numbers.number,
        "digits": numbers.digits,
        "percent": numbers.percent,
        "points": numbers.points,
        "amount": numbers.amount,
        "interval": numbers.interval,
        "gain_bounds": numbers.gain_bounds,
        "signed": numbers.signed,
        "milliseconds": numbers.milliseconds,
        "typeset": numbers.typeset,
        "agreement": numbers.agreement,
        "judged_rows": numbers.judged_rows,
        "unmeasured_because": numbers.unmeasured_because,
        "long_rows": numbers.long_rows,
        "seeds": numbers.seeds,
        "interference": numbers.interference,
        "data_curve": numbers.data_curve,
        "methods_compared": numbers.methods_compared,
        "bounds": numbers.bounds,
        "level": numbers.level,
        "duration": numbers.duration,
        "memory": numbers.memory,
        "size": numbers.size,
        "ordinal": numbers.ordinal,
        "prompted": numbers.prompted,
        "shortened": shortened,
        "settings": settings_text,
    }
    template = environment.get_template("page.html.j2")
    page = template.render(
        run=summary,
        names=figures.names_by_id(summary),
        sentence=numbers.without_decision(summary.verdict),
        rule=RULES.get(summary.verdict.rule, summary.verdict.rule),
        metric_title=metric_title,
        is_share=is_share,
        goal_words=goal_words(summary),
        labelled=summary.kind == "classify",
        can_conflict=summary.kind in LABELLED,
        goal_metric=summary.verdict.metric,
        split_titles=numbers.SPLIT_TITLES,
        metrics=metric_names(summary.test_scorecards, summary.verdict.metric),
        best_opponent=best_finalist(summary),
        scorecards=[
            ("validation", [*summary.opponents, summary.tuned_validation]),
            ("test", summary.test_scorecards),
        ],
        candidates=all_candidates(summary),
        long_rows_shown=LONG_ROWS_SHOWN,
        accounting=row_accounting(summary.manifest),
        audited=numbers.audit_in_words(summary.manifest.checks),
        comparisons=planned_and_happened(summary),
        stages=stage_costs(summary),
        spends=any(card.cost.spend for card in (*summary.opponents, *summary.test_scorecards)),
        plots=_plots(summary),
        mean_of_attacks=MEAN,
        labour_line=LABOUR,
        smaller_is_better=SMALLER_IS_BETTER,
        stock_phrases_shown=STOCK_PHRASES_SHOWN,
        comments_shown=COMMENTS_SHOWN,
    )
    write_text(path, page)


def goal_words(summary: RunSummary) -> str:
    """The gain that was asked for, in the unit of its metric."""
    verdict = summary.verdict
    if not is_share(verdict.metric):
        return f"{numbers.number(verdict.goal_gain, numbers.RAW_DIGITS)} of {metric_title(verdict.metric)}"
    named = "" if verdict.metric == "accuracy" else f" of {metric_title(verdict.metric)}"
    return f"{numbers.number(100 * verdict.goal_gain, 1)} points{named}"


def shortened(text: str) -> str:
    """A long example, cut where it says so."""
    if len(text) <= LONGEST_EXAMPLE:
        return text
    return f"{text[:LONGEST_EXAMPLE]} … ({numbers.number(len(text) - LONGEST_EXAMPLE)} more characters)"


def settings_text(candidate: Candidate) -> str:
    """A candidate's settings on one line, in the order of their names."""
    pairs = sorted(candidate.settings.items())
    return ", ".join(f"{name} = {_setting(value)}" for name, value in pairs)


def _setting(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def metric_names(cards: Sequence[Scorecard], goal: str = "accuracy") -> list[str]:
    """Every metric that any of the scorecards has, the goal's first, then those with a title in its order."""
    found = {name for card in cards for name in card.metrics}
    first = [name for name in (goal, *TITLES) if name in found]
    return list(dict.fromkeys([*first, *sorted(found)]))


def best_finalist(summary: RunSummary) -> str | None:
    """The name of the finalist that does best on validation, which the examples are against."""
    metric = summary.verdict.metric
    sign = -1 if metric in SMALLER_IS_BETTER else 1
    measured = [
        (card.stopped_after_rows is None, sign * card.metrics[metric].value, card.candidate.name)
        for card in summary.opponents
        if card.candidate.id in summary.finalists and metric in card.metrics
    ]
    return max(measured)[2] if measured else None


def all_candidates(summary: RunSummary) -> list[Candidate]:
    """Every candidate of the run, once."""
    cards = (*summary.opponents, summary.tuned_validation, *summary.test_scorecards)
    return list({card.candidate.id: card.candidate for card in cards}.values())


def row_accounting(manifest: Manifest) -> str:
    """Whether the rows in splits and the rows set aside add up to the rows that were read."""
    kept = sum(split.rows for split in manifest.splits.values())
    aside = sum(item.rows for item in manifest.set_aside)
    parts = f"{numbers.number(kept)} rows are in a split and {numbers.number(aside)} were set aside"
    for total, words in ((manifest.source_rows, "rows read"), (manifest.rows, "rows that fit the task")):
        if kept + aside == total:
            return f"{parts}: together all {numbers.number(total)} {words}."
    return f"{parts}, of {numbers.number(manifest.source_rows)} read; the manifest does not explain the rest."


def planned_and_happened(summary: RunSummary) -> list[Comparison]:
    """The estimates made before training beside what was measured."""
    plan, training = summary.plan, summary.training
    cards = (*summary.opponents, summary.tuned_validation, *summary.test_scorecards)
    peak = max(cost.peak_memory_mb for cost in (training.cost, *(card.cost for card in cards)))
    stages = summary.stage_seconds
    lines: list[tuple[str, float, float | None, Callable[[float], str]]] = [
        ("Opponents", plan.estimated_opponents_seconds, stages.get("opponents"), numbers.duration),
        ("Training", plan.estimated_train_seconds, stages.get("train"), numbers.duration),
        ("Verdict", plan.estimated_verdict_seconds, stages.get("verdict"), numbers.duration),
        ("Peak memory", plan.estimated_peak_memory_mb, peak, numbers.memory),
        ("Training tokens", plan.train_tokens, training.trained_tokens, numbers.number),
        ("Useful tokens per second", plan.tokens_per_second, training.tokens_per_second, numbers.number),
    ]
    return [
        Comparison(
            what,
            show(planned),
            "unmeasured" if happened is None else show(happened),
            happened / planned if happened is not None and planned > 0 else None,
        )
        for what, planned, happened, show in lines
    ]


def stage_costs(summary: RunSummary) -> list[StageCost]:
    """Time by stage, with tokens and memory where the stage runs candidates."""
    costs = {
        "opponents": _total([card.cost for card in summary.opponents]),
        "train": summary.training.cost,
        "verdict": _total([card.cost for card in summary.test_scorecards]),
    }
    return [StageCost(name, seconds, costs.get(name)) for name, seconds in summary.stage_seconds.items()]


def _total(costs: Sequence[Cost]) -> Cost:
    return Cost(
        sum(cost.seconds for cost in costs),
        sum(cost.rows for cost in costs),
        sum(cost.tokens for cost in costs),
        max((cost.peak_memory_mb for cost in costs), default=0.0),
        sum(cost.spend for cost in costs),
    )


def _plots(summary: RunSummary) -> dict[str, Markup]:
    """The figures that have something to show, each drawn for wide and for narrow pages."""
    has_probes = any(item.kind == "probe" for item in summary.forgetting)
    has_texts = any(item.kind == "text" for item in summary.forgetting)
    draw: dict[str, Callable[[int], str] | None] = {
        "forest": lambda width: figures.forest_plot(summary, width),
        "gain": (lambda width: figures.gain_plot(summary, width)) if summary.verdict.gains else None,
        "training": (lambda width: curves.training_plot(summary.training, width))
        if summary.training.train
        else None,
        "rows": lambda width: figures.rows_plot(summary.manifest, width),
        "texts": (lambda width: figures.forgetting_plot(summary.forgetting, width)) if has_texts else None,
        "probes": (lambda width: figures.probe_plot(summary.forgetting, width)) if has_probes else None,
    }
    # Only our own drawing code makes this markup; matplotlib escapes every text inside it.
    return {
        name: Markup(f'<div class="wide">{plot(WIDE)}</div><div class="narrow">{plot(NARROW)}</div>')
        for name, plot in draw.items()
        if plot is not None
    }
