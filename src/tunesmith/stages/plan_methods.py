"""How each training is made to fit the memory, and what those for comparison (train.compare_methods) take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import UserError
from tunesmith.plan_records import PlannedMethod
from tunesmith.stages.memory import available_mb, give_back, held_mb, resident_mb, start_measuring
from tunesmith.stages.session import Session
from tunesmith.task.compared_methods import compared_settings

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.models.rendering import Tokens
    from tunesmith.task.train_settings import TrainSettings
    from tunesmith.training.memory_choice import MemoryChoice


def memory_for(session: Session, settings: TrainSettings, rows: list[Tokens], precision: str) -> MemoryChoice:
    """How training by ``settings`` is made to fit this machine's memory, before anything is loaded.

    For decoders only. Raises UserError where nothing fits.
    """
    from tunesmith.engine.devices import find_device, free_mb
    from tunesmith.training.batches import sharing_of
    from tunesmith.training.memory import read_shape
    from tunesmith.training.memory_choice import choose_memory

    device = find_device(settings.device)
    return choose_memory(
        read_shape(Path(session.base().folder)),
        settings,
        2 if precision == "bf16" else 4,
        rows,
        sharing_of(rows),
        free_mb(device) if device.type == "cuda" else available_mb(),
        device.type,
    )


def planned_methods(
    session: Session,
    labels: tuple[str, ...],
    rows: list[Tokens],
    precision: str,
    decoder: bool,
    seconds_of: Callable[[float, float], float],
) -> tuple[PlannedMethod, ...]:
    """Each compared method, probed by a few steps on a copy of the base of its own; none where none is asked.

    ``rows`` are those of training as rendered; ``seconds_of`` makes all that a method takes of the seconds
    for a token that is trained on and for one of validation.
    Raises UserError where a method does not fit the memory or the base.
    """
    return tuple(
        _planned(session, settings, labels, rows, precision, decoder, seconds_of)
        for settings in compared_settings(session.task.train)
    )


def _planned(
    session: Session,
    settings: TrainSettings,
    labels: tuple[str, ...],
    rows: list[Tokens],
    precision: str,
    decoder: bool,
    seconds_of: Callable[[float, float], float],
) -> PlannedMethod:
    from tunesmith.engine.adapters import make_trainable
    from tunesmith.engine.added_tokens import grow
    from tunesmith.engine.classifier_head import with_head
    from tunesmith.engine.devices import find_device
    from tunesmith.training.fit import TOKENS_PER_MICRO_BATCH
    from tunesmith.training.measure import measure_steps
    from tunesmith.training.memory import MIB, after_probe

    give_back()  # of the model probed before
    device = find_device(settings.device)
    memory = None
    if decoder:
        try:
            memory = memory_for(session, settings, rows, precision)
        except UserError as error:
            raise UserError(
                f"train.compare_methods: {settings.method}: {error.what}",
                f"leave {settings.method} out of train.compare_methods",
            ) from error
    before_mb = 0.0 if device.type == "cuda" else resident_mb()
    loaded = grow(with_head(session.load_again(precision), labels, settings.seed), settings.add_tokens or ())
    start_measuring(device)
    make_trainable(loaded.model, settings, loaded.head, len(loaded.tokenizer))
    largest = memory.largest.rows if memory else None
    micro_batch_tokens = memory.micro_batch_tokens if memory else TOKENS_PER_MICRO_BATCH
    recompute = memory is not None and memory.recompute
    rates = measure_steps(loaded, rows, settings, largest, micro_batch_tokens, recompute)
    probed_mb = held_mb(device) - before_mb
    peak = before_mb + probed_mb
    if memory is not None:
        peak = before_mb + after_probe(memory.plan, round(probed_mb * MIB)) / MIB
    return PlannedMethod(
        method=settings.method,
        learning_rate=settings.learning_rate,
        micro_batch_tokens=micro_batch_tokens,
        recompute=recompute,
        estimated_seconds=seconds_of(
            1 / rates.train_tokens_per_second, 1 / rates.validation_tokens_per_second
        ),
        estimated_peak_memory_mb=peak,
    )
