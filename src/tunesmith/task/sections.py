"""What all sections of a task file share: ranges in words, and unknown keys being errors."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

SLUG = r"^[a-z0-9][a-z0-9_-]{0,63}$"
NOT_BLANK = r"\S"
DEVICE = r"^(cpu|cuda(:[0-9]+)?)$"
# What the patterns above mean, for people.
PATTERNS = {
    SLUG: "up to 64 lower-case letters, digits, - and _, beginning with a letter or digit",
    NOT_BLANK: "text (not empty)",
    DEVICE: "cpu, cuda, or cuda: and a number, as cuda:1",
}

Text = Annotated[str, Field(pattern=NOT_BLANK)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Size = Count | Share


class Section(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)
