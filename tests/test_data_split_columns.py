"""Columns that the task names: rows kept together, splits by time, and splits that are given."""

import random
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import date, timedelta
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data import shingles
from tunesmith.data.audit.findings import AuditData
from tunesmith.data.curation.apply import apply_plan
from tunesmith.data.curation.plan import RepairPlan
from tunesmith.data.dates import parsed_date
from tunesmith.data.duplicates import compared_text, group_rows, with_groups, words
from tunesmith.data.leaks import leaks_between
from tunesmith.data.splits import Split, SplitSpec, split_rows
from tunesmith.errors import UserError
from tunesmith.records import Message, Row, SplitName

DRAWN = SplitSpec(None, 0.15, 0.4, 0, None)


def row(number: int, text: str, target: str, **fields: str | None) -> Row:
    kept = tuple(sorted((name, value) for name, value in fields.items() if value is not None))
    return Row(f"id-{number}", f"a.jsonl:{number + 1}", (Message("user", text),), target, fields=kept)


def grouped(rows: list[Row], *columns: str) -> list[Row]:
    return list(with_groups(rows, group_rows(rows, keep_together=columns)))


def contracts(documents: int, questions: int, same_text: int = 0) -> list[Row]:
    """Questions about long documents, answered differently; ``same_text`` documents amend the first one."""
    chance = random.Random(5)
    rows: list[Row] = []
    texts: list[str] = []
    for document in range(documents):
        text = " ".join(f"w{chance.randrange(2000)}" for _ in range(60))
        texts.append(f"{texts[0]} amended {document}" if 0 < document <= same_text else text)
        for question in range(questions):
            rows.append(
                row(
                    len(rows),
                    f"{texts[-1]} question {question}",
                    chance.choice(["yes", "no", "unsaid"]),
                    doc_id=f"d{document}",
                )
            )
    return rows


def parts(split: Split) -> dict[SplitName, tuple[Row, ...]]:
    return {"train": split.train, "validation": split.validation, "test": split.test}


def accounted(split: Split) -> int:
    return sum(map(len, parts(split).values())) + sum(aside.rows for aside in split.set_aside)


def similarity(one: Row, other: Row) -> float:
    first, second = (
        {tuple(said[at : at + 3]) for at in range(len(said) - 2)} or {tuple(said)}
        for said in (words(compared_text(one)), words(compared_text(other)))
    )
    return len(first & second) / len(first | second)


few_words = st.lists(st.sampled_from("abcd"), min_size=3, max_size=6).map(" ".join)
values = st.one_of(st.none(), st.sampled_from(["x", "y", "z", " x "]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(few_words, values, values), min_size=1, max_size=12), st.randoms())
def test_groups_are_the_components_of_near_duplicates_and_shared_values(
    drawn: list[tuple[str, str | None, str | None]], order: random.Random
) -> None:
    rows = [row(number, text, "a", doc=doc, who=who) for number, (text, doc, who) in enumerate(drawn)]
    component = list(range(len(rows)))
    for one, other in combinations(range(len(rows)), 2):
        shared = any(
            rows[one].field(name) is not None and rows[one].field(name) == rows[other].field(name)
            for name in ("doc", "who")
        )
        if shared or similarity(rows[one], rows[other]) >= 0.8:
            old, new = component[other], component[one]
            component = [new if number == old else number for number in component]
    found = group_rows(rows, keep_together=("doc", "who"))
    assert len(set(found)) == len(set(component)) == len(set(zip(found, component, strict=True)))
    shuffled = list(range(len(rows)))
    order.shuffle(shuffled)
    again = group_rows([rows[number] for number in shuffled], keep_together=("doc", "who"))
    assert again == [found[number] for number in shuffled]


def test_documents_are_split_whole_and_their_different_answers_are_trained_on() -> None:
    rows = grouped(contracts(130, 4, same_text=3), "doc_id")
    split = split_rows(rows, replace(DRAWN, test=0.42, keep_together=("doc_id",)))
    documents = {name: {row.field("doc_id") for row in members} for name, members in parts(split).items()}
    assert sum(map(len, documents.values())) == 130
    assert any({"d0", "d1", "d2", "d3"} <= members for members in documents.values())
    assert split.conflict_groups == 0
    assert split.set_aside == ()
    answers = {(one.group, one.target) for one in split.train}
    assert len(answers) > len({one.group for one in split.train})
    assert accounted(split) == len(rows)
    assert leaks_between(split.train, split.validation, split.test, keep_together=("doc_id",)) == ()
    with pytest.raises(UserError):  # as one group with several labels each, nothing could be trained on
        split_rows(rows, DRAWN)


def test_only_rows_of_one_input_that_contradict_each_other_are_not_trained_on() -> None:
    rows = contracts(130, 4)
    torn = [row(1000 + at, f"{rows[at].text}!", f"not {rows[at].target}", doc_id=f"d{at // 4}")
            for at in range(0, 520, 10)]  # fmt: skip
    rows = grouped([*rows, *torn], "doc_id")
    split = split_rows(rows, SplitSpec(200, 0.15, 0.4, 0, None, keep_together=("doc_id",)))
    assert len(split.train) == 200, "contradicted rows do not count as training rows"
    wanted = {one.id for one in torn} | {f"id-{at}" for at in range(0, 520, 10)}
    assert not wanted & {row.id for row in split.train}
    for row_ in (*split.validation, *split.test):
        assert row_.conflict == (row_.id in wanted)
    assert any(row_.conflict for row_ in split.test)
    assert any(aside.reason == "conflicting targets, not trained on" for aside in split.set_aside)
    assert accounted(split) == len(rows)


def test_a_repair_plan_leaves_the_different_answers_about_one_document_alone() -> None:
    rows = grouped(contracts(130, 4), "doc_id")
    split = split_rows(rows, replace(DRAWN, keep_together=("doc_id",)))
    data = AuditData(tuple(rows), (None,) * len(rows), kept_together=True)
    plan = RepairPlan({})
    repaired = apply_plan(split, data, (), plan, {}, conflicts_by_input=True)
    assert repaired.split == split
    assert any(row.conflict for row in apply_plan(split, data, (), plan, {}).split.train)


def test_documents_of_a_test_file_are_kept_out_of_train_and_validation() -> None:
    rows = grouped(contracts(130, 4), "doc_id")
    test = [one for one in rows if int((one.field("doc_id") or "")[1:]) < 60 and int(one.id[3:]) % 4 == 1]
    others = [one for one in rows if one not in test]
    split = split_rows(others, SplitSpec(None, 0.2, None, 0, None, keep_together=("doc_id",)), test)
    seen = {one.field("doc_id") for one in (*split.train, *split.validation)}
    assert not seen & {one.field("doc_id") for one in test}
    (aside,) = split.set_aside
    assert aside.reason == "in one group with test rows"
    assert accounted(split) == len(rows)


def test_rows_without_a_value_are_counted_and_stay_with_their_near_duplicates() -> None:
    rows = [replace(one, fields=()) if number < 8 else one for number, one in enumerate(contracts(130, 4))]
    rows = grouped(rows, "doc_id")
    assert len({one.group for one in rows}) == 130  # four near-duplicates each
    split = split_rows(rows, replace(DRAWN, keep_together=("doc_id",)))
    assert "8 rows have no 'doc_id': they stay with their near-duplicates alone" in split.notes


def test_a_value_in_two_splits_is_a_leak_whatever_the_groups_say() -> None:
    one = row(1, "the first text of all", "a", doc_id="d1")
    other = row(2, "something else is said here", "b", doc_id="d1")
    apart = [replace(one, group="g1"), replace(other, group="g2")]
    (leak,) = leaks_between(apart[:1], [], apart[1:], keep_together=("doc_id",))
    assert (leak.kind, leak.first_source, leak.second_source) == ("same value", "a.jsonl:2", "a.jsonl:3")
    assert leaks_between(apart[:1], [], apart[1:]) == ()


def test_long_texts_compared_a_few_at_a_time_are_found_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [words(compared_text(one)) for one in contracts(12, 3)]
    sets = shingles.shingle_sets(texts, 3)
    first, second = np.triu_indices(len(texts), 1)
    matrix = shingles.incidence(sets)
    whole = shingles.are_near(matrix, first, second, 0.8)
    monkeypatch.setattr(shingles, "_SHINGLES_AT_ONCE", 130)
    assert (shingles.are_near(matrix, first, second, 0.8) == whole).all()
    assert whole.sum() == 12 * 3


def test_a_split_that_whole_groups_do_not_fill_is_noted_where_train_takes_the_rest() -> None:
    rows = grouped(contracts(130, 4), "doc_id")
    split = split_rows(rows, SplitSpec(None, 50, 210, 0, None, keep_together=("doc_id",)))
    assert (len(split.train), len(split.validation), len(split.test)) == (264, 48, 208)
    assert (
        "test holds 208 rows instead of 210: groups of near-duplicates and doc_id are not cut" in split.notes
    )


def dated(days: list[tuple[int, ...]]) -> list[Row]:
    """One group for each tuple, one row for each day."""
    start = date(2024, 1, 1)
    rows: list[Row] = []
    for group, members in enumerate(days):
        for day in members:
            when = (start + timedelta(days=day)).isoformat()
            one = row(len(rows), f"t{group}", "ab"[len(rows) % 2], at=when)
            rows.append(replace(one, group=f"g{group}"))
    return rows


@settings(max_examples=80, deadline=None)
@given(
    extra=st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=2).map(tuple), max_size=40),
    seed=st.integers(0, 3),
    train=st.one_of(st.none(), st.integers(20, 60)),
)
def test_by_time_train_comes_before_validation_and_validation_before_test(
    extra: list[tuple[int, ...]], seed: int, train: int | None
) -> None:
    rows = dated([(day,) for day in range(300)] + extra)
    split = split_rows(rows, SplitSpec(train, 30, 110, seed, None, time="at"))
    latest: defaultdict[str, str] = defaultdict(str)
    for one in rows:
        latest[one.group] = max(latest[one.group], one.field("at") or "")
    order = [[latest[one.group] for one in members] for members in parts(split).values()]
    assert max(order[0]) <= min(order[1])
    assert max(order[1]) <= min(order[2])
    groups = [{one.group for one in members} for members in parts(split).values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert accounted(split) == len(rows)
    assert 109 <= len(split.test) <= 110
    note = next(note for note in split.notes if note.startswith("dates in 'at'"))
    days = [one.field("at") or "" for one in split.test]
    assert f"test {min(days)}T00:00:00 to {max(days)}T00:00:00" in note


def test_rows_without_a_readable_date_are_named() -> None:
    rows = dated([(day,) for day in range(200)])
    bad = [replace(one, fields=(("at", "31.12.2024"),)) for one in rows[:30]] + rows[30:]
    with pytest.raises(
        UserError, match=r"30 of 200 rows have no readable date in 'at': a\.jsonl:1"
    ) as caught:
        split_rows(bad, SplitSpec(None, 20, 60, 0, None, time="at"))
    assert "('31.12.2024')" in caught.value.what
    assert caught.value.what.count("a.jsonl:") == 20
    assert caught.value.what.endswith(", ...")
    assert parsed_date("31.12.2024") is None


AS_GIVEN = SplitSpec(None, None, None, 0, None, given="split")


def given_rows(names: list[list[str]]) -> list[Row]:
    """One group for each list, one row for each name."""
    rows: list[Row] = []
    for group, members in enumerate(names):
        for name in members:
            rows.append(replace(row(len(rows), f"t{group}", "ab"[group % 2], split=name), group=f"g{group}"))
    return rows


split_names = st.sampled_from(["train", "validation", "valid", "val", "Dev", "test", " TEST "])
MEANT = {"valid": "validation", "val": "validation", "dev": "validation"}


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(split_names, min_size=1, max_size=4), max_size=30))
def test_given_splits_stay_and_a_group_in_several_keeps_its_most_sealed_rows(extra: list[list[str]]) -> None:
    fixed = [["train"]] * 20 + [["dev"]] * 10 + [["test"]] * 50
    rows = given_rows(fixed + extra)
    split = split_rows(rows, AS_GIVEN)
    sealed = ["train", "validation", "test"]
    meant = {one.id: MEANT.get(said := str(one.field("split")).lower(), said) for one in rows}
    highest: dict[str, int] = {}
    for one in rows:
        highest[one.group] = max(highest.get(one.group, 0), sealed.index(meant[one.id]))
    for name, members in parts(split).items():
        stays = {one.id for one in rows if meant[one.id] == name == sealed[highest[one.group]]}
        assert {one.id for one in members} == stays
    assert accounted(split) == len(rows)
    left = Counter(sealed[highest[one.group]] for one in rows if meant[one.id] != sealed[highest[one.group]])
    told = {aside.reason: aside.rows for aside in split.set_aside}
    assert told == {f"in one group with rows given to {name}": number for name, number in left.items()}


def test_unknown_splits_are_named_and_a_split_without_rows_is_refused() -> None:
    rows = given_rows([["train"]] * 30 + [["holdout"]] * 25 + [["dev"]] * 5 + [["test"]] * 50)
    with pytest.raises(UserError, match="25 of 110 rows name no split in 'split'") as caught:
        split_rows(rows, AS_GIVEN)
    assert "a.jsonl:31 ('holdout')" in caught.value.what
    assert caught.value.what.count("holdout") == 20
    with pytest.raises(UserError, match="no row has validation in 'split'"):
        split_rows(given_rows([["train"]] * 30 + [["test"]] * 50), AS_GIVEN)
    both = given_rows([["train"]] * 30 + [["dev", "test"]] * 50)
    with pytest.raises(UserError, match="no row is left for validation"):
        split_rows(both, AS_GIVEN)
