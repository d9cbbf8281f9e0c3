"""The other methods that a run trains by for comparison (train.compare_methods), and with which settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tunesmith.task.lines import Where
from tunesmith.task.train_settings import ADAPTER_LEARNING_RATE, FULL_LEARNING_RATE, TrainSettings


def compared_settings(train: TrainSettings, seed: int | None = None) -> tuple[TrainSettings, ...]:
    """The settings of each other method, in the order named; ``seed``, where given, replaces the task's.

    All is the task's own but the method and its learning rate (see :func:`learning_rate_of`). rslora hands
    its scale on to methods that divide by the rank. What full fine-tuning has no use for is left out.
    """
    return tuple(
        _settings_of(train, method, train.seed if seed is None else seed)
        for method in train.compare_methods
        if method != train.method
    )


def learning_rate_of(train: TrainSettings, method: str) -> float:
    """The rate given for it; else that of full fine-tuning, or, of an adapter, the task's own where it trains
    an adapter as well, so that the two differ in nothing but the method."""
    rates = train.compare_learning_rates
    given = None if rates is None else getattr(rates, method)
    if given is not None:
        return float(given)
    if method == "full":
        return FULL_LEARNING_RATE
    return ADAPTER_LEARNING_RATE if train.method == "full" else train.learning_rate


def broken_method_rules(train: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    """Which settings of ``train``, as in the file, do not go together with the comparison of methods."""
    named, rates = train.get("compare_methods"), train.get("compare_learning_rates")
    methods = [str(one) for one in named] if isinstance(named, (list, tuple)) else []
    own = train.get("method", "lora")
    if len(set(methods)) < len(methods):
        yield ("train", "compare_methods"), "a method is given twice"
    elif methods == [own]:
        yield ("train", "compare_methods"), f"{own} is the task's own method: name another one"
    if methods and train.get("start_from"):
        yield (
            ("train", "compare_methods"),
            "not together with train.start_from, as an adapter can be gone on from by its own method only: "
            "leave one of the two out",
        )
    given = rates.items() if isinstance(rates, Mapping) else ()
    for method in [name for name, rate in given if rate is not None]:
        if method == own:
            yield ("train", "compare_learning_rates", method), "the task's own: set train.learning_rate"
        elif method not in methods:
            yield (
                ("train", "compare_learning_rates", method),
                f"{method} is not compared: add it to train.compare_methods, or leave it out here",
            )


def _settings_of(train: TrainSettings, method: str, seed: int) -> TrainSettings:
    changes: dict[str, object] = {
        "method": method,
        "learning_rate": learning_rate_of(train, method),
        "seed": seed,
        "seeds": None,
        "learning_curve": False,
        "compare_methods": (),
        "compare_learning_rates": None,
    }
    if method == "full":
        changes |= {"adapter_dropout": 0.0, "targets": None, "modules_to_save": None}
    elif train.method == "rslora":
        changes["alpha"] = train.alpha * math.sqrt(train.rank)
    return train.model_copy(update=changes)
