"""Datasets of the Hugging Face Hub: their Parquet files, at a revision that is recorded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import UserError

HUB = "hub:"
_ENTRY = re.compile(r"hub:(?P<name>[\w.-]+/[\w.-]+)(?P<part>/[^@]+)?(@(?P<revision>[\w./-]+))?", re.ASCII)
_CONVERTED = "refs/convert/parquet"  # where the Hub keeps Parquet copies of data in other formats


@dataclass(frozen=True)
class HubFiles:
    """Downloaded files; ``names`` hold dataset, revision and path, so that they say what was read."""

    files: tuple[Path, ...]
    names: tuple[str, ...]
    note: str


def fetch_from_hub(entry: str, cache: Path, say: Callable[[str], None]) -> HubFiles:
    """The Parquet files of ``hub:owner/name[/part][@revision]``, through huggingface_hub into ``cache``.

    ``part`` is a folder or the beginning of file names, such as ``data/train``; it must be given where the
    dataset has several configurations or splits. Without a revision the newest is taken; which one that was
    is in the names and the note. What was fetched before is also read offline, if its revision is given.

    Raises:
        UserError: not such an entry, the Hub cannot be reached, no such dataset, no Parquet files, or several
            splits and no part.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise UserError(
            f"{entry}: not a dataset on the Hub",
            "Write hub:owner/name, hub:owner/name/data/train, or either with @revision.",
        )
    name, part, folder = match["name"], (match["part"] or "")[1:], cache / "hub"
    try:
        say(f"asking the Hub for {name}")
        try:
            commit, paths = _listed(name, match["revision"])
        except Exception:  # offline, or the Hub is down: any error of the network, told where nothing is kept
            fetched = _fetched_before(name, match["revision"], folder)
            if fetched is None:
                raise
            commit, paths = fetched
        chosen = _chosen(entry, part, paths)
        files = tuple(
            Path(hf_hub_download(name, path, repo_type="dataset", revision=commit, cache_dir=folder))
            for path in chosen
        )
    except UserError:
        raise
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise UserError(
            f"{entry}: the Hub has no such dataset or revision, or it is not public: {_first_line(error)}",
            "Check owner, name and revision; for private data log in with: hf auth login",
        ) from error
    except Exception as error:  # which errors a broken connection gives depends on huggingface_hub's version
        raise UserError(
            f"{entry}: it could not be had from the Hub: {_first_line(error)}",
            "Check the connection, or download the Parquet files elsewhere and name them with data.path.",
        ) from error
    names = tuple(f"{HUB}{name}@{commit[:12]}/{path}" for path in chosen)
    pinned = f"{HUB}{name}{'/' + part if part else ''}@{commit}"
    note = f"{entry}: {len(files):,} Parquet files of revision {commit}"
    return HubFiles(files, names, note if entry == pinned else f"{note}; to keep to it, write {pinned}")


def _listed(name: str, revision: str | None) -> tuple[str, list[str]]:
    """The commit that ``revision`` stands for, and its Parquet files; else those that the Hub converted."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    info = HfApi().dataset_info(name, revision=revision)
    paths = _parquet(sibling.rfilename for sibling in info.siblings or ())
    if not paths and revision is None:
        try:
            info = HfApi().dataset_info(name, revision=_CONVERTED)
        except RevisionNotFoundError:
            return str(info.sha), []
        paths = _parquet(sibling.rfilename for sibling in info.siblings or ())
    return str(info.sha), paths


def _fetched_before(name: str, revision: str | None, folder: Path) -> tuple[str, list[str]] | None:
    from huggingface_hub import snapshot_download

    if revision is None:
        return None
    try:
        found = Path(
            snapshot_download(
                name, repo_type="dataset", revision=revision, cache_dir=folder, local_files_only=True
            )
        )
    except OSError:
        return None
    return found.name, _parquet(file.relative_to(found).as_posix() for file in found.rglob("*"))


def _parquet(paths: Iterable[str]) -> list[str]:
    return sorted(path for path in paths if path.endswith(".parquet"))


def _chosen(entry: str, part: str, paths: list[str]) -> list[str]:
    if not paths:
        raise UserError(
            f"{entry}: this dataset has no Parquet files",
            "Download it, and name its files with data.path.",
        )
    parts = sorted({_part_of(path) for path in paths})
    name, *revision = entry.split("@")
    if not part and len(parts) > 1:
        raise UserError(
            f"{entry}: this dataset has several parts: {', '.join(parts[:10])}"
            + (", ..." if len(parts) > 10 else ""),
            f"Name one of them, for example {'@'.join([f'{name}/{parts[0]}', *revision])}",
        )
    chosen = [path for path in paths if path.startswith(part)]
    if not chosen:
        raise UserError(
            f"{entry}: no Parquet file of this dataset begins with '{part}' (found: {', '.join(parts[:10])})",
            "Name one of those.",
        )
    return chosen


def _part_of(path: str) -> str:
    """What the shards of one split share: ``data/train`` of ``data/train-00000-of-00002.parquet``."""
    return re.sub(r"(-\d+-of-\d+|/\d+)?(-[0-9a-f]{16})?\.parquet$", "", path)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
