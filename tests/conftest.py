"""What every test and every process a test starts needs, whatever shell or job runner started pytest."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:  # torch takes seconds to import, and most tests need none
    from tunesmith.pipeline import Run
    from tunesmith.stages.session import Session

# Tiny models gain nothing from more threads, and beside other work threads that wait for each other are many
# times slower.
os.environ["OMP_NUM_THREADS"] = "1"

# A job started in the background ignores Ctrl-C and passes that on to its children; tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A third of hypothesis's usual number; on CI the same every time, so that a red run means a change.
# After a change of an invariant: pytest --hypothesis-profile=thorough
settings.register_profile("usual", max_examples=30)
settings.register_profile("ci", max_examples=30, derandomize=True)
settings.register_profile("thorough", max_examples=300)
settings.load_profile("ci" if os.environ.get("CI") else "usual")

# PyTorch and its like make a million objects that live on; looking through them often takes 7 % of the time.
gc.set_threshold(100_000, 20, 100)


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """What tests write need not outlive a power cut, and waiting for the disk is seconds of the suite."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def general_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base beside which the runs of all tests keep what they measure of it, in ``cache``."""
    from tiny import make_tiny_base

    folder = tmp_path_factory.mktemp("general")
    (folder / "cache").mkdir()
    return make_tiny_base(folder / "base", general=True)


@pytest.fixture(scope="session")
def home(general_base: Path) -> Path:
    """A folder with a tiny base, toy data and probes, and a cache that the tests of whole runs share."""
    from toy_task import write_toy_probes, write_toy_rows

    folder = general_base.parent
    write_toy_rows(folder / "rows.jsonl", shuffled=False)
    write_toy_rows(folder / "shuffled.jsonl", shuffled=True)
    write_toy_probes(folder / "probes.jsonl")
    return folder


@pytest.fixture(scope="session")
def finished(home: Path) -> tuple[Session, Run]:
    """One finished run of the toy task."""
    from toy_task import toy_session
    from tunesmith.pipeline import run_stages

    session = toy_session(home, home / "runs")
    return session, run_stages(session, "report")
