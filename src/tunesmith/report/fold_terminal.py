"""Cross-fitting for the terminal: the folds as they are trained, and what came out of each."""

from __future__ import annotations

from rich.console import RenderableType

from tunesmith.records import Manifest
from tunesmith.report import numbers
from tunesmith.report.terminal import stage_block
from tunesmith.run_records import Crossfit, Training


def fold_line(place: int, folds: int, manifest: Manifest, training: Training) -> RenderableType:
    """One fold whose opponents and training are done; nothing has been asked of its own rows yet."""
    splits = manifest.splits
    return stage_block(
        "fold",
        [
            f"{place} of {folds}: {numbers.number(splits['test'].rows)} rows kept apart; trained on "
            f"{numbers.number(splits['train'].rows)}, chosen on {numbers.number(splits['validation'].rows)}, "
            f"step {numbers.number(training.best_step)} of {numbers.number(training.steps)}"
        ],
    )


def fold_lines(crossfit: Crossfit, metric: str) -> RenderableType:
    """The score of every recipe on the rows of each fold."""
    lines = []
    for place, fold in enumerate(crossfit.folds, start=1):
        scores = " · ".join(
            f"{numbers.estimate(one.score, metric) if one.score else 'unmeasured'} {one.recipe}"
            for one in fold.scores
        )
        lines.append(f"{place} ({numbers.sample(fold.judged.rows, fold.judged.groups)}): {scores}")
    lines.append(
        "(intervals of a fold are those of its models on its rows; guards were measured on the model to be "
        "used)"
    )
    return stage_block("folds", lines)
