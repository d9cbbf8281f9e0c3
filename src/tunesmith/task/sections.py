"""What all sections of a task file share: ranges in words, and unknown keys being errors."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

SLUG = r"^[a-z0-9][a-z0-9_-]{0,63}$"
NOT_BLANK = r"\S"
DAY = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"
LANGUAGE = r"^[a-z]{2}$"
COUNTRY = r"^[A-Z]{2}$"
DEVICE = r"^(cpu|cuda(:[0-9]+)?)$"
# What the patterns above mean, for people.
PATTERNS = {
    SLUG: "up to 64 lower-case letters, digits, - and _, beginning with a letter or digit",
    NOT_BLANK: "text (not empty)",
    DAY: "a day of the calendar, as 2024-05-31",
    LANGUAGE: "a language by its two letters, as en",
    COUNTRY: "a country by its two capital letters, as GB",
    DEVICE: "cpu, cuda, or cuda: and a number, as cuda:1",
}

Text = Annotated[str, Field(pattern=NOT_BLANK)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Size = Count | Share


class Section(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)
