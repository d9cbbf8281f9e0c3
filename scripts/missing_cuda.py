"""Print the CUDA packages that the installed torch asks for and that are missing, one a line.

A CPU build of torch asks for none; the registry's Linux builds cannot be imported without them.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement


def missing_cuda_packages() -> list[str]:
    """CUDA packages that torch's metadata asks for on this machine and that are not installed so."""
    requirements = (Requirement(line) for line in distribution("torch").requires or [])
    return [
        requirement.name
        for requirement in requirements
        if requirement.name.startswith(("nvidia", "cuda", "triton"))
        and (requirement.marker is None or requirement.marker.evaluate({"extra": ""}))
        and not is_installed(requirement)
    ]


def is_installed(requirement: Requirement) -> bool:
    """Whether a version that satisfies ``requirement`` is installed."""
    try:
        return requirement.specifier.contains(distribution(requirement.name).version)
    except PackageNotFoundError:
        return False


if __name__ == "__main__":
    sys.stdout.writelines(f"{name}\n" for name in missing_cuda_packages())
