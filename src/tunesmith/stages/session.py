"""What the stages of one run share: the task, its folder, the console, and the base, loaded at most once."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from tunesmith.models.catalog import Base, check_base, resolve_base
from tunesmith.progress import Report, progress_bar
from tunesmith.report.terminal import stage_block
from tunesmith.task import Task
from tunesmith.wheels import cache_folder
from tunesmith.workspace import TaskFolder

if TYPE_CHECKING:  # torch takes seconds to import, and a run whose stages are all cached needs none of it
    from tunesmith.models.embedding import Embedder
    from tunesmith.models.loading import LoadedModel


class Session:
    """One run of one task. ``console`` shows progress; results go to whoever called."""

    def __init__(self, task: Task, folder: TaskFolder, console: Console, cache: Path | None = None) -> None:
        self.task = task
        self.folder = folder
        self.console = console
        self.cache = cache or cache_folder()
        # Of ``stages/embedding.py``, once it was asked for.
        self.embedder: Embedder | None = None
        self._base: Base | None = None
        self._checked = False
        self._loaded: LoadedModel | None = None

    def beside(self, task: Task, folder: TaskFolder) -> Session:
        """A session for another task, or other settings of this one, on the same base."""
        other = Session(task, folder, self.console, self.cache)
        other._base = self.base()
        return other

    def say(self, message: str) -> None:
        """A note beside the stages; never read as markup."""
        self.console.print(stage_block("", [Text(message, "dim")]))

    @contextmanager
    def bar(self, stage: str, what: str) -> Iterator[Report]:
        """A progress bar under the name of a stage."""
        with progress_bar(self.console, stage, what) as report:
            yield report

    def base(self) -> Base:
        """Where the task's base model is; fetched and converted on first use."""
        if self._base is None:
            self._base = self.find_base(self.task.base)
        return self._base

    def loaded(self, precision: str) -> LoadedModel:
        """The base in memory, in ``precision`` as the plan chose it."""
        if self._loaded is None:
            self._loaded = self.load_again(precision)
        return self._loaded

    def find_base(self, name: str) -> Base:
        """Where another base is, named as in the task file; fetched and converted on first use."""
        self.cache.mkdir(parents=True, exist_ok=True)
        return resolve_base(name, self.task.folder, self.cache, self.say)

    def release(self) -> None:
        """Let go of the base in memory; who asks for it again has it loaded again."""
        self._loaded = None

    def load_again(self, precision: str, base: Base | None = None) -> LoadedModel:
        """Another copy of the base in memory, for work that must leave nothing behind; or of another base."""
        from torch import nn

        from tunesmith.engine import attention
        from tunesmith.engine.devices import find_device
        from tunesmith.engine.precision import DTYPES, tune_process
        from tunesmith.models.loading import load_base

        if not self._checked:
            check_base(self.base())
            self._checked = True
        tune_process()
        attention.register()
        device = find_device(self.task.train.device)
        loaded = load_base(base or self.base(), DTYPES[precision], attention.ATTENTION_NAME)
        nn.Module.to(loaded.model, device=device)
        return loaded


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in _lines(Path("/proc/cpuinfo"))
            if line.startswith(("model name", "Hardware"))
        ),
        platform.processor() or platform.machine(),
    )
    memory = next((line for line in _lines(Path("/proc/meminfo")) if line.startswith("MemTotal")), "")
    return {
        "processor": model,
        "cores": str(usable_cores()),
        "memory": f"{int(memory.split()[1]) / 2**20:.1f} GiB" if memory else "unknown",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
