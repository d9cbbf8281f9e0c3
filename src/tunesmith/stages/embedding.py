"""The embedding model that a task names under ``opponents.embeddings``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import UserError
from tunesmith.files import content_hash
from tunesmith.models.size import count_parameters
from tunesmith.records import Row
from tunesmith.stages.memory import available_mb
from tunesmith.stages.session import Session

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.models.embedding import Embedder

SETTING = "opponents.embeddings"
PROBED_ROWS = 16
# Packages keep a model in a folder of such a name; the folder around it tells which one it is.
UNTELLING = ("model", "models")
# fp32, with what a batch needs beside the weights.
_BYTES_PER_WEIGHT = 4 * 1.25


def embedder_of(session: Session) -> Embedder | None:
    """The model, found and fetched on first use; None where the task names none.

    Raises UserError where there is no such model, it is no encoder, or needs more memory than is free.
    """
    named = session.task.opponents.embeddings
    if named is None:
        return None
    if session.embedder is None:
        from tunesmith.models.embedding import PLAIN, Embedder, check_encoder
        from tunesmith.models.sentence_files import read_pooling

        try:
            base = session.find_base(named)
        except UserError as error:
            raise UserError(
                error.what.replace("base:", f"{SETTING}:", 1), error.fix, error.exit_code
            ) from error
        check_encoder(base, SETTING)
        needed, free = count_parameters(Path(base.folder)) * _BYTES_PER_WEIGHT / 2**20, available_mb()
        if free and needed > free:
            raise UserError(
                f"{SETTING}: {base.name} needs about {needed / 1024:,.1f} GiB of memory; "
                f"{free / 1024:,.1f} GiB are free",
                "free memory, name a smaller model, or leave it out",
            )
        pooling = read_pooling(Path(base.folder), SETTING)
        if pooling != PLAIN:  # it decides the vectors as much as the weights do
            base = replace(base, sha256=content_hash([base.sha256, asdict(pooling)]))
        if base.name in UNTELLING:
            base = replace(base, name=Path(base.folder).parent.name)
        session.embedder = Embedder(base, session.task.train.device, session.folder.embeddings, pooling)
    return session.embedder


def embeddings_sha256(session: Session) -> str | None:
    """The hash of the model, for cache keys; None where the task names none."""
    embedder = embedder_of(session)
    return None if embedder is None else embedder.base.sha256


def release_embedder(session: Session) -> None:
    """Let go of the model in memory, if there is one."""
    if session.embedder is not None:
        session.embedder.release()


def embedding_seconds(session: Session, train: Sequence[Row], validation: Sequence[Row]) -> float:
    """About how long it takes to embed all rows once, from a few of them timed; 0 without a model."""
    embedder = embedder_of(session)
    if embedder is None:
        return 0.0
    some = [row.text for row in train[:: max(1, len(train) // PROBED_ROWS)][:PROBED_ROWS]]
    embedder.embed(some[:1])  # loads the model
    started = time.perf_counter()
    embedder.embed(some)
    seconds = time.perf_counter() - started
    embedder.release()
    return seconds / len(some) * (len(train) + len(validation))
