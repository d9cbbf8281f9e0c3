"""The settings of the split: how the rows become train, validation and test."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunesmith.task.sections import Section, Size, Text

CROSSFIT_FOLDS = 5
# Below so many groups a test of its own takes rows that training needs.
FEW_GROUPS = 1500


class SplitSettings(Section):
    """How the rows are divided. A whole number counts rows; one between 0 and 1 is a share of them."""

    train: Size | None = Field(
        default=None,
        description="What the model learns from. Leave it out for all rows that validation and test do not "
        "take.",
        examples=[0.5],
    )
    validation: Size | None = Field(
        default=None,
        description="What every choice is made on: settings, prompts, when to stop. Scored often, so a few "
        "hundred rows are a good size. Needed unless the splits are given.",
        examples=[0.15],
    )
    test: Size | Literal["crossfit"] | None = Field(
        default=None,
        description="Sealed, and opened once for the verdict. The more rows, the smaller the gain that can "
        "be proven (`tunesmith plan` shows it). Leave it out when data.test_path is given. crossfit, for few "
        "rows (under about 1,500 groups): no test is set aside; everything is repeated for each fold of the "
        "rows on the other folds, every row is judged once by a model that did not learn from its group, and "
        "the model to be used is trained on all rows. It takes folds times the training time.",
        examples=[0.25],
    )
    folds: Annotated[int, Field(ge=3, le=20)] | None = Field(
        default=None,
        description="With test: crossfit, into how many folds the groups are dealt; left out: 5.",
        examples=[5],
    )
    seed: Annotated[int, Field(ge=0)] = Field(
        default=0, description="The seed of the draw. Another seed gives another dataset version."
    )
    keep_together: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)] | None = Field(
        default=None,
        description="Columns such as a customer, a document or a conversation: rows that share a value in "
        "any of them are one group, besides near-duplicates, and a group is never split. Only equal inputs "
        "with different targets are then conflicts, which are not trained on.",
        examples=[["customer", "conversation"]],
    )
    time: Text | None = Field(
        default=None,
        description="The column with each row's date (ISO 8601, such as 2024-05-31): train comes before "
        "validation, validation before test, by whole groups; a group counts with its latest date. The sizes "
        "are taken from the latest rows back, not by label.",
        examples=["created_at"],
    )
    given: Text | None = Field(
        default=None,
        description="The column that says train, validation (valid, val, dev) or test, where the splits "
        "exist; sizes are not given then. A group in several splits keeps its rows in the most sealed one.",
        examples=["split"],
    )

    @property
    def crossfit_folds(self) -> int | None:
        """Into how many folds the rows are dealt with ``test: crossfit``; None with a test of its own."""
        return (self.folds or CROSSFIT_FOLDS) if self.test == "crossfit" else None

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """The columns that the split needs, each with the setting that names it."""
        named = [("split.keep_together", column) for column in self.keep_together or ()]
        named += [("split.time", self.time)] if self.time else []
        named += [("split.given", self.given)] if self.given else []
        return tuple(named)
