"""How large a model is, from the headers of its files: no weight is read."""

from __future__ import annotations

import json
import math
from pathlib import Path

from tunesmith.errors import UserError

# Prompting a smaller model is a weak opponent.
STRONG_PARAMETERS = 1_000_000_000

_LONGEST_HEADER_BYTES = 100_000_000  # what the safetensors library itself allows


def count_parameters(folder: Path) -> int:
    """The numbers in all ``*.safetensors`` of a folder. Raises UserError for a file that is none."""
    return sum(_count(path) for path in sorted(folder.glob("*.safetensors")))


def _count(path: Path) -> int:
    """A file begins with the length of its header (8 bytes, little-endian) and the header as JSON."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            if length > _LONGEST_HEADER_BYTES:
                raise ValueError("its header would be too long")
            header = json.loads(stream.read(length))
            return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"base: {path} is no safetensors file ({error})", "fetch the model's files again"
            ) from None
