"""Rows that no label fits."""

from __future__ import annotations

from pydantic import Field

from tunesmith.task.sections import Section, Share, Text


class NoneOfTheseSettings(Section):
    """When a candidate shall say "none of these" instead of giving a label."""

    label: Text = Field(
        description="What the target column says of rows that no label fits; also the answer to such rows.",
        examples=["out_of_scope"],
    )
    in_training: bool = Field(
        default=True,
        description="true: training rows that say so are learned like any other label. false: they are left "
        "out of training, and only the threshold tells such rows; what is meant if those in use will be "
        "unlike the ones collected.",
    )
    false_accept_rate: Share = Field(
        default=0.1,
        description="Every candidate gets the lowest threshold at which at most so many rows that no label "
        "fits are expected to be given one all the same. Validation must hold 1 / false_accept_rate − 1 such "
        "groups.",
    )
