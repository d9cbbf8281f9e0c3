"""Rows above the limit are refused, left out or cut as the task says; answers are never cut."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny import load_tiny, make_tiny_base, toy_rows
from tunesmith.errors import UserError
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import check_rendering, instructed, render_answer, render_row
from tunesmith.records import Message, Row
from tunesmith.task.train_settings import TrainSettings
from tunesmith.training.long_rows import TrainingRows, training_rows

INSTRUCTION = "Name the team that should answer."
LONG = 3


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_tiny(make_tiny_base(tmp_path_factory.mktemp("long") / "base"))


def rows_with_a_long_one(words: int = 200) -> list[Row]:
    rows = toy_rows(6, ("billing", "delivery"), seed=0)
    text = " ".join(f"w{index}" for index in range(words))
    rows[LONG] = replace(rows[LONG], messages=(Message("user", f"first {text} last"),))
    return rows


def fitted(tiny: LoadedModel, rows: list[Row], policy: str, limit: int | None = None) -> TrainingRows:
    chosen = TrainSettings.model_validate({"long_rows": policy, "max_tokens": limit})
    return training_rows(tiny, INSTRUCTION, rows, chosen)


def test_rows_that_fit_are_left_alone_by_every_policy(tiny: LoadedModel) -> None:
    rows = toy_rows(6, ("billing", "delivery"), seed=0)
    for policy in ("error", "drop", "truncate_left", "truncate_right"):
        found = fitted(tiny, rows, policy)
        assert found.rows == rows
        assert found.long == ()
        assert found.tokens == [render_row(tiny, instructed(INSTRUCTION, row), row.target) for row in rows]


def test_long_rows_are_refused_with_their_number_names_and_what_can_be_done(tiny: LoadedModel) -> None:
    with pytest.raises(
        UserError, match=r"1 of 6 rows do not fit base's context of 512 .*toy\.jsonl:4"
    ) as caught:
        fitted(tiny, rows_with_a_long_one(), "error")
    assert "train.long_rows" in caught.value.fix
    with pytest.raises(UserError, match=r"6 of 6 rows do not fit train\.max_tokens of 20 tokens"):
        fitted(tiny, rows_with_a_long_one(), "error", 20)


def test_dropped_rows_are_listed(tiny: LoadedModel) -> None:
    rows = rows_with_a_long_one()
    found = fitted(tiny, rows, "drop")
    assert found.rows == [row for index, row in enumerate(rows) if index != LONG]
    assert len(found.tokens) == 5
    (long,) = found.long
    assert (long.row_id, long.source, long.kept_tokens) == (rows[LONG].id, "toy.jsonl:4", None)
    assert long.tokens == len(render_row(tiny, instructed(INSTRUCTION, rows[LONG]), rows[LONG].target).ids)


@pytest.mark.parametrize(("policy", "gone", "stays"), [
    ("truncate_left", "first", "last"), ("truncate_right", "last", "first"),
])  # fmt: skip
def test_a_cut_keeps_the_frame_the_instruction_and_the_answer(
    tiny: LoadedModel, policy: str, gone: str, stays: str
) -> None:
    rows = rows_with_a_long_one()
    found = fitted(tiny, rows, policy, 300)
    assert len(found.rows) == 6
    row, tokens = found.rows[LONG], found.tokens[LONG]
    assert (row.id, row.source, row.target) == (rows[LONG].id, rows[LONG].source, rows[LONG].target)
    assert stays in row.text
    assert gone not in row.text
    assert INSTRUCTION in tiny.tokenizer.decode(tokens.ids)
    assert [token for token, learn in zip(tokens.ids, tokens.learn, strict=True) if learn] == render_answer(
        tiny, row.target
    )
    assert 290 <= len(tokens.ids) <= 300  # no more is cut than must be
    assert found.long[0].kept_tokens == len(tokens.ids)
    check_rendering(tiny, found.tokens, found.rows)


@pytest.mark.parametrize("policy", ["truncate_left", "truncate_right"])
def test_a_row_whose_answer_would_have_to_be_cut_is_dropped_and_listed(
    tiny: LoadedModel, policy: str
) -> None:
    rows = rows_with_a_long_one()
    long_answer = " ".join(f"w{index}" for index in range(200))
    rows[LONG] = replace(rows[LONG], messages=(Message("user", "short"),), target=long_answer)
    found = fitted(tiny, rows, policy)
    assert rows[LONG].id not in [row.id for row in found.rows]
    assert [(row.row_id, row.kept_tokens) for row in found.long] == [(rows[LONG].id, None)]


def test_what_the_assistant_said_before_is_not_cut(tiny: LoadedModel) -> None:
    said = " ".join(f"s{index}" for index in range(60))
    asked = " ".join(f"w{index}" for index in range(50))
    turns = (Message("user", "hi"), Message("assistant", said), Message("user", asked))
    row = replace(toy_rows(1, ("billing",), seed=0)[0], messages=turns)
    whole = len(render_row(tiny, instructed(INSTRUCTION, row), row.target).ids)
    found = fitted(tiny, [row], "truncate_left", whole - 40)
    assert [message.content for message in found.rows[0].messages[:2]] == ["hi", said]
    assert asked.endswith(found.rows[0].messages[2].content)
    assert len(found.rows[0].messages[2].content) < len(asked)


def test_a_limit_above_the_context_and_a_limit_that_leaves_nothing_are_refused(tiny: LoadedModel) -> None:
    rows = rows_with_a_long_one()
    with pytest.raises(UserError, match=r"max_tokens: 513 is above base's context of 512"):
        fitted(tiny, rows, "drop", 513)
    with pytest.raises(UserError, match="all 6 training rows have more than 8 tokens"):
        fitted(tiny, rows, "drop", 8)


@settings(max_examples=25, deadline=None)
@given(
    words=st.integers(1, 300),
    limit=st.integers(150, 512),
    policy=st.sampled_from(["drop", "truncate_left", "truncate_right"]),
)
def test_no_row_is_above_the_limit_and_every_row_is_accounted_for(
    tiny: LoadedModel, words: int, limit: int, policy: str
) -> None:
    rows = rows_with_a_long_one(words)
    found = fitted(tiny, rows, policy, limit)
    assert all(len(tokens.ids) <= limit for tokens in found.tokens)
    dropped = {long.row_id for long in found.long if long.kept_tokens is None}
    assert [row.id for row in found.rows] == [row.id for row in rows if row.id not in dropped]
    check_rendering(tiny, found.tokens, found.rows)
