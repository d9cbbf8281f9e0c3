"""What the audit of the data is told beside the data itself."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import AfterValidator, Field

from tunesmith.task.sections import COUNTRY, DAY, LANGUAGE, Section, Text

Texts = Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]


def _existing(day: str) -> str:
    date.fromisoformat(day)  # a ValueError for a day such as 2024-02-31
    return day


Day = Annotated[str, Field(pattern=DAY), AfterValidator(_existing)]


class AuditSettings(Section):
    """What the audit compares the rows with. A check that is not told what it needs is unmeasured."""

    benchmarks: Texts | None = Field(
        default=None,
        description="Files of which the data should hold no row, such as a public benchmark that the model "
        "will be judged by. They are read like data.path, with the same columns.",
        examples=[["benchmark.jsonl"]],
    )
    examples: Texts | None = Field(
        default=None,
        description="A few inputs as they should be. Rows far from them, and from description and "
        "instruction, are found.",
        examples=[["My card was swallowed by the machine.", "How do I change my address?"]],
    )
    domain: Text | None = Field(
        default=None,
        description="The column that says which domain a row belongs to: the mix of domains is told.",
        examples=["product"],
    )
    languages: Annotated[
        tuple[Annotated[str, Field(pattern=LANGUAGE)], ...] | None, Field(strict=False, min_length=1)
    ] = Field(
        default=None,
        description="The languages that inputs may be in (ISO 639-1). Left out: the one most are in.",
        examples=[["en", "de"]],
    )
    groups: Texts | None = Field(
        default=None,
        description="Columns whose values are groups of people: the rates of labels are compared between "
        "them, as between groups that inputs name by word (gender, nationality, age, religion).",
        examples=[["region"]],
    )
    dates: Text | None = Field(
        default=None,
        description="The column with each row's date (ISO 8601). Left out: one that holds such dates.",
        examples=["created_at"],
    )
    oldest: Day | None = Field(
        default=None, description="The first day that rows may be from.", examples=["2022-01-01"]
    )
    newest: Day | None = Field(
        default=None, description="The last day that rows may be from.", examples=["2025-12-31"]
    )
    phone_regions: Annotated[
        tuple[Annotated[str, Field(pattern=COUNTRY)], ...], Field(strict=False, min_length=1)
    ] = Field(
        default=("US", "GB"),
        description="Countries (ISO 3166) whose phone numbers are found without a country code, too.",
        examples=[["US", "GB", "DE"]],
    )
