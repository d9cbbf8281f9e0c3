"""The decision table: what each candidate that ran has cost and brought, and when fine-tuning pays.

Everything in it was measured in this run. What did not run is named, never estimated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from tunesmith.errors import UserError
from tunesmith.guard_records import BreakEven, CandidateCost, Costs, Latency
from tunesmith.people_records import Labour
from tunesmith.records import Estimate, Forgetting, PairedGain, Scorecard
from tunesmith.run_records import Training
from tunesmith.stats.break_even import break_even, scaled
from tunesmith.stats.intervals import mean_interval
from tunesmith.task.guard_settings import CostSettings

SECONDS_PER_HOUR = 3600
MILLION = 1_000_000
LABOUR = "people without the model's answer"


def decision_table(
    opponents: Sequence[Scorecard],
    tuned: Scorecard,
    training: Training,
    latencies: Sequence[Latency],
    gains: Sequence[PairedGain],
    forgetting: Sequence[Forgetting],
    gap: Estimate | None,
    prices: CostSettings | None,
    not_run: Sequence[str],
    metric: str = "accuracy",
) -> Costs:
    """One line for each candidate, and the break-even against each one that was timed.

    ``opponents`` and ``tuned`` are scorecards on validation, of which ``metric`` is shown; ``gains`` are the
    verdict's; ``latencies`` are of single requests, on the same rows for every candidate. Without ``prices``
    the break-even is in time of one machine that trains and answers.
    """
    timed = {latency.candidate: latency for latency in latencies}
    gain_over = {gain.opponent: gain for gain in gains}
    lines = []
    for card in (*opponents, tuned):
        name, is_tuned = card.candidate.name, card is tuned
        latency = timed.get(name)
        seconds = _mean(latency.seconds, latency) if latency else None
        tokens = _mean(latency.tokens, latency) if latency and any(latency.tokens) else None
        lines.append(
            CandidateCost(
                name=name,
                kind=card.candidate.kind,
                fixed_seconds=card.cost.seconds + (training.cost.seconds if is_tuned else 0.0),
                memory_mb=max(card.cost.peak_memory_mb, training.cost.peak_memory_mb if is_tuned else 0.0),
                latency=seconds,
                tokens=tokens,
                score=card.metrics.get(metric),
                gain=gain_over.get(name),
                forgetting=_text_change(forgetting) if is_tuned else None,
                gap=gap if is_tuned else None,
                price=_price(card.candidate.kind, latency, prices),
            )
        )
    own = timed.get(tuned.candidate.name)
    kinds = {card.candidate.name: card.candidate.kind for card in opponents}
    pays = [
        _break_even(latency, kinds[latency.candidate], own, training.cost.seconds, prices)
        for latency in latencies
        if own is not None and latency.candidate in kinds
    ]
    return Costs(tuple(lines), tuple(one for one in pays if one is not None), tuple(not_run))


def labour_break_even(
    labour: Labour | None,
    candidates: Sequence[CandidateCost],
    train_seconds: float,
    prices: CostSettings | None,
) -> BreakEven | None:
    """After how many items training has paid in people's working time; None without times, or their price.

    From what an item saves the tuned model's own answer is taken off, at its mean: its interval is nothing
    beside that of people's times.
    """
    if labour is None or labour.saved is None or prices is None or prices.labour_per_hour is None:
        return None
    hourly = prices.machine_per_hour / SECONDS_PER_HOUR
    tuned = next((one for one in candidates if one.kind == "tuned" and one.latency), None)
    request = tuned.latency.value * hourly if tuned and tuned.latency else 0.0
    wage = prices.labour_per_hour / SECONDS_PER_HOUR
    value, low, high = (
        each * wage - request for each in (labour.saved.value, labour.saved.low, labour.saved.high)
    )
    saved = replace(labour.saved, value=value, low=low, high=high)
    fixed = train_seconds * hourly
    items, first, last = break_even(fixed, saved)
    minutes = labour.saved.value / 60, labour.saved.low / 60, labour.saved.high / 60
    why = (
        f"with the tuned model's answer people take {minutes[0]:.2f} min [{minutes[1]:.2f}, "
        f"{minutes[2]:.2f}] less for an item"
    )
    if first is None:
        told = "by working time fine-tuning never pays"
    elif items is None or last is None:
        told = f"by working time fine-tuning may pay after {_rounded(items or first)} items, or never"
    else:
        told = (
            f"by working time fine-tuning pays after {_rounded(items)} items ({_rounded(first)} at the "
            f"earliest, {_rounded(last)} at the latest)"
        )
    return BreakEven(LABOUR, saved, prices.currency, fixed, items, first, last, f"{told}: {why}")


def _break_even(
    opponent: Latency, kind: str, tuned: Latency, train_seconds: float, prices: CostSettings | None
) -> BreakEven | None:
    """None where the two were not timed on at least two groups of rows."""
    theirs, own = _of_each_request(opponent, kind, prices), _of_each_request(tuned, "tuned", prices)
    try:
        saved = mean_interval(theirs - own, tuned.groups)
    except UserError:
        return None
    fixed = train_seconds * (prices.machine_per_hour / SECONDS_PER_HOUR if prices else 1.0)
    requests, low, high = break_even(fixed, saved)
    unit = prices.currency if prices else "s"
    sentence = _sentence(opponent.candidate, requests, low, high, prices)
    return BreakEven(opponent.candidate, saved, unit, fixed, requests, low, high, sentence)


def _sentence(
    opponent: str, requests: float | None, low: float | None, high: float | None, prices: CostSettings | None
) -> str:
    if low is None:
        return f"against {opponent}, fine-tuning never pays by cost alone: each of its requests costs more"
    least = f"{_rounded(low)} at the earliest"
    if requests is None:
        return (
            f"against {opponent}, fine-tuning does not pay by cost alone, as far as these requests can tell: "
            f"perhaps after {_rounded(low)} requests, perhaps never"
        )
    most = f"{_rounded(high)} at the latest" if high is not None else "perhaps never"
    after = f"{_rounded(requests)} requests ({least}, {most})"
    told = f"against {opponent}, fine-tuning pays by cost alone after {after}"
    if prices is None or prices.requests_per_day is None:
        return told
    return f"{told}: {_days(requests / prices.requests_per_day)} at {_rounded(prices.requests_per_day)} a day"


def _rounded(number: float) -> str:
    """Three digits are more than it is known to."""
    if number < 1000:
        return f"{number:,.0f}" if number >= 1 else "1"
    digits = len(str(int(number))) - 3
    return f"{round(number, -digits):,.0f}"


def _days(days: float) -> str:
    return "less than a day" if days < 1 else f"{_rounded(days)} days"


def _of_each_request(latency: Latency, kind: str, prices: CostSettings | None) -> NDArray[np.float64]:
    """What each request cost: at an endpoint what it charged, elsewhere the time of one machine, or its
    tokens where prompts are priced by them. Without ``prices`` its seconds."""
    if prices is None:
        return np.asarray(latency.seconds)
    if latency.spend:
        return np.asarray(latency.spend)
    if kind == "prompt" and prices.endpoint_per_million_tokens is not None:
        return np.asarray(latency.tokens) * (prices.endpoint_per_million_tokens / MILLION)
    return np.asarray(latency.seconds) * (prices.machine_per_hour / SECONDS_PER_HOUR)


def _price(kind: str, latency: Latency | None, prices: CostSettings | None) -> Estimate | None:
    """The price of a million requests."""
    if prices is None or latency is None:
        return None
    price = _mean(_of_each_request(latency, kind, prices), latency)
    return scaled(price, MILLION) if price else None


def _mean(values: npt.ArrayLike, latency: Latency) -> Estimate | None:
    """With an interval from 0 on: no request takes less than nothing."""
    try:
        mean = mean_interval(values, latency.groups)
    except UserError:  # all rows of one group
        return None
    return replace(mean, low=max(0.0, mean.low))


def _text_change(forgetting: Sequence[Forgetting]) -> Estimate | None:
    texts = [item for item in forgetting if item.kind == "text"]
    return texts[-1].change if texts else None  # the last is that of all texts
