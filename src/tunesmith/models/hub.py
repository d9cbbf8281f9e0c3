"""Bases of the Hugging Face Hub, at a pinned revision, and those whose terms are accepted first."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tunesmith.errors import UserError
from tunesmith.files import read_record, write_json

_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]
_PINNED = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})", re.ASCII)
_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]*)?", re.ASCII)


@dataclass(frozen=True)
class HubBase:
    """A catalog entry that lies on the Hub. ``terms`` are shown, and accepted before anything is fetched."""

    hub_id: str
    licence: str
    terms: str


@dataclass(frozen=True)
class Accepted:
    """That the terms of a catalog entry were accepted on this machine, when, and for which revision."""

    name: str
    hub_id: str
    revision: str
    terms: str
    accepted: str


@dataclass(frozen=True)
class Pin:
    """The content hash that a Hub revision had when it was first fetched."""

    hub_id: str
    revision: str
    sha256: str


HUB_CATALOG: dict[str, HubBase] = {
    "gemma-3-270m-it": HubBase(
        "google/gemma-3-270m-it",
        "Gemma Terms of Use",
        "Gemma is provided under and subject to the Gemma Terms of Use found at\n"
        "https://ai.google.dev/gemma/terms, with the Prohibited Use Policy at\n"
        "https://ai.google.dev/gemma/prohibited_use_policy. They also bind what you train from it, and\n"
        "whoever you give that to. The Hub asks you to accept them there, too:\n"
        "https://huggingface.co/google/gemma-3-270m-it",
    )
}


def is_hub_id(name: str) -> bool:
    """Whether ``name`` has the form owner/name, with or without a revision."""
    return _ID.fullmatch(name) is not None and not name.startswith(".")


def pinned(name: str) -> tuple[str, str]:
    """Id and revision of ``owner/name@revision``.

    Raises UserError where no revision, or one that can move (a branch, a tag), is named.
    """
    match = _PINNED.fullmatch(name)
    if match is None:
        hub_id = name.partition("@")[0]
        raise UserError(
            f"base: {name!r} names no fixed revision, and what lies on the Hub may change under its name",
            fix=f"write {hub_id}@ and the 40 digits of a commit; `tunesmith base {hub_id}` fetches the "
            "newest and prints the line. (If a folder was meant: there is none of this name beside the task "
            "file.)",
        )
    return match["name"], match["revision"]


def newest_revision(hub_id: str) -> str:
    """The commit that is now the newest of ``hub_id``. Raises UserError where the Hub does not tell."""
    from huggingface_hub import model_info

    try:
        revision = model_info(hub_id).sha
    except Exception as error:  # which errors a broken connection gives depends on huggingface_hub's version
        raise _not_had(hub_id, error) from error
    if revision is None:
        raise UserError(f"base: the Hub names no revision of {hub_id}", fix="check the name")
    return revision


def fetch(hub_id: str, revision: str, cache: Path, say: Callable[[str], None]) -> Path:
    """The folder of the model's files at ``revision``; one that was fetched before, without any connection.

    Raises UserError where they are not here, and cannot be had.
    """
    from huggingface_hub import snapshot_download

    if _pin(cache, hub_id, revision).is_file():
        if (kept := fetched(hub_id, revision, cache)) is not None:
            return kept
        say(f"{hub_id} at {revision[:12]} is no longer in this machine's Hub cache")
    say(f"fetching {hub_id} at {revision[:12]} from the Hub")
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=_FILES))
    except Exception as error:  # as above
        raise _not_had(f"{hub_id}@{revision[:12]}", error) from error


def fetched(hub_id: str, revision: str, cache: Path) -> Path | None:
    """The folder of a revision that was fetched before, without any connection; None where it is not here."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if not _pin(cache, hub_id, revision).is_file():
        return None
    try:
        return Path(snapshot_download(hub_id, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:  # removed from the Hub's cache since
        return None


def check_pin(cache: Path, hub_id: str, revision: str, sha256: str) -> None:
    """Remember the hash of a revision's content, or compare it with the one remembered.

    Raises UserError where they differ: the files were changed since.
    """
    path = _pin(cache, hub_id, revision)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, Pin(hub_id, revision, sha256))
        return
    known = read_record(path, Pin).sha256
    if known != sha256:
        raise UserError(
            f"base: the files of {hub_id}@{revision[:12]} are not those first fetched (content "
            f"{sha256[:12]}, then {known[:12]})",
            fix="remove the model from the Hugging Face cache (hf cache) to fetch it anew; if it was meant "
            f"to change, remove {path}",
        )


def accept(name: str, cache: Path) -> Accepted:
    """Record that the terms of catalog entry ``name`` are accepted; the newest revision is pinned with it.

    Raises UserError where the Hub does not tell the revision; nothing is then recorded.
    """
    entry = HUB_CATALOG[name]
    revision = newest_revision(entry.hub_id)
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    accepted = Accepted(name, entry.hub_id, revision, entry.terms, moment)
    path = _acceptance(name, cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, accepted)
    return accepted


def accepted_terms(name: str, cache: Path) -> Accepted | None:
    """What :func:`accept` recorded; None where these terms were not accepted."""
    path = _acceptance(name, cache)
    if not path.is_file():
        return None
    accepted = read_record(path, Accepted)
    return accepted if accepted.terms == HUB_CATALOG[name].terms else None


def _pin(cache: Path, hub_id: str, revision: str) -> Path:
    return cache / "hub-pins" / f"{hub_id.replace('/', '--')}-{revision}.json"


def _acceptance(name: str, cache: Path) -> Path:
    return cache / "accepted-terms" / f"{name}.json"


def _not_had(what: str, error: Exception) -> UserError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if type(error).__name__ == "GatedRepoError":
        return UserError(
            f"base: the Hub gives {what} only to those who accepted its terms there ({lines[0]})",
            fix=f"accept them on https://huggingface.co/{what.partition('@')[0]}, log in with "
            "`hf auth login`, and run again",
        )
    return UserError(
        f"base: {what} could not be had from the Hub ({lines[0]})",
        fix="check the name and the connection, or use a local folder or a catalog name",
    )
