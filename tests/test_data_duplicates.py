"""Grouping finds every near-duplicate, and the leak check does not depend on it."""

import itertools
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.audit.leaks import SPLITS
from tunesmith.data.duplicates import group_rows, shingles, words
from tunesmith.data.leaks import Leak, LeakKind, leaks_between
from tunesmith.data.near import rows_per_band
from tunesmith.records import Message, Row


def row(number: int, text: str, group: str = "") -> Row:
    return Row(f"id{number}", f"data.jsonl:{number}", (Message("user", text),), "card", group)


def groups_of(*texts: str, similarity: float = 0.8) -> list[str]:
    return group_rows([row(number, text) for number, text in enumerate(texts)], similarity)


def jaccard(first: str, second: str) -> float:
    a, b = shingles(words(first), 3), shingles(words(second), 3)
    return len(a & b) / len(a | b)


def variations(seed: int, originals: int, copies: int) -> list[str]:
    """Texts with copies in which a few words were changed, so that similarities fall on both sides of 0.8."""
    chance = random.Random(seed)
    vocabulary = [f"word{n}" for n in range(300)]
    texts = []
    for _ in range(originals):
        original = chance.choices(vocabulary, k=chance.randint(4, 60))
        for _ in range(copies):
            copy = [chance.choice(vocabulary) if chance.random() < 0.03 else word for word in original]
            texts.append(" ".join(copy))
    chance.shuffle(texts)
    return texts


def brute_force_components(texts: list[str], similarity: float) -> list[int]:
    component = list(range(len(texts)))
    for first, second in itertools.combinations(range(len(texts)), 2):
        if component[first] != component[second] and jaccard(texts[first], texts[second]) >= similarity:
            old, new = component[second], component[first]
            component = [new if value == old else value for value in component]
    return component


@pytest.mark.parametrize("similarity", [0.5, 0.8, 0.95])
def test_groups_equal_those_of_comparing_every_pair(similarity: float) -> None:
    texts = variations(seed=3, originals=60, copies=5)
    expected = brute_force_components(texts, similarity)
    found = groups_of(*texts, similarity=similarity)
    assert len(set(expected)) < len(texts)  # there is something to find
    pairs = set(zip(expected, found, strict=True))
    assert len(pairs) == len(set(expected)) == len(set(found))


@pytest.mark.parametrize("words_shared", [6, 10, 22, 42])
def test_a_pair_exactly_at_the_threshold_is_near(words_shared: int) -> None:
    shared = [f"w{n}" for n in range(words_shared)]
    added = [f"new{n}" for n in range((words_shared - 2) // 4)]  # one new shingle for four shared ones
    first, second = " ".join(shared), " ".join([*added, *shared])
    assert jaccard(first, second) == 0.8
    assert len(set(groups_of(first, second))) == 1
    for pair in ((first, second), (second, first)):
        rows = [row(number, text) for number, text in enumerate(pair)]
        assert [leak.kind for leak in leaks_between(rows[:1], [], rows[1:])] == ["near-duplicate"]


def test_groups_do_not_depend_on_the_order_of_rows() -> None:
    texts = variations(seed=4, originals=40, copies=4)
    by_text = dict(zip(texts, groups_of(*texts), strict=True))
    shuffled = sorted(texts)
    assert dict(zip(shuffled, groups_of(*shuffled), strict=True)) == by_text


def test_ten_thousand_short_rows_are_grouped_within_fifteen_seconds() -> None:
    texts = variations(seed=5, originals=5000, copies=2)
    started = time.process_time()
    found = groups_of(*texts)
    assert time.process_time() - started < 15
    assert 5000 <= len(set(found)) < 10_000


def test_thousands_of_rows_from_one_template_do_not_take_forever() -> None:
    chance = random.Random(6)
    template = (
        "dear customer {} thank you for your message about order {} we have looked into it and the parcel {} "
        "left our warehouse on monday please wait two more days before you write again kind regards"
    )
    texts = [template.format(*(f"n{chance.randrange(9999)}" for _ in range(3))) for _ in range(3000)]
    started = time.process_time()
    assert len(set(groups_of(*texts))) > 2900
    assert time.process_time() - started < 15


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Where is my card?", "where is  my CARD"),
        ("Where is my card?", "where\nis my card…"),
        ("ﬁnd it", "find it"),  # a ligature
        ("STRASSE", "straße"),
        ("!?", "!?"),
        ("hi", "Hi!"),
    ],
)
def test_case_spacing_and_punctuation_do_not_tell_texts_apart(first: str, second: str) -> None:
    assert len(set(groups_of(first, second))) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("GPL version 2.0", "GPL version 3.0"),
        ("GPL 2.0", "GPL 2.0+"),
        ("C", "C++"),
        ("20 euro", "2.0 euro"),
        ("😀", "😡"),
        ("!?", "..."),
        ("costs 5 $", "costs 5 €"),
        ("कि", "की"),  # differ in a vowel sign only
        ("我喜歡這張卡", "我討厭這張卡"),
        ("hi", "hi there"),
    ],
)
def test_digits_versions_symbols_and_signs_tell_texts_apart(first: str, second: str) -> None:
    assert len(set(groups_of(first, second))) == 2


def test_chinese_texts_are_compared_by_their_characters() -> None:
    text = "我的信用卡昨天在机场被偷了请你们马上帮我冻结这个账户谢谢"
    assert len(set(groups_of(text, text + "啊"))) == 1


def test_a_shared_system_turn_does_not_make_rows_alike() -> None:
    system = Message("system", "You answer questions about cards. " * 30)
    rows = [
        Row(str(n), str(n), (system, Message("user", text)), "x") for n, text in enumerate(["lost", "stolen"])
    ]
    assert len(set(group_rows(rows))) == 2


def test_bands_are_narrow_enough_for_the_threshold() -> None:
    for similarity in (0.3, 0.5, 0.7, 0.8, 0.9, 0.99):
        width = rows_per_band(similarity)
        assert (1 - similarity**width) ** (128 // width) <= 1e-6
    assert rows_per_band(0.8) == 4
    assert rows_per_band(1.0) == 128


def test_leaks_equal_those_of_comparing_every_pair() -> None:
    texts = variations(seed=7, originals=50, copies=3)
    rows = [row(number, text) for number, text in enumerate(texts)]
    splits = [rows[:70], rows[70:110], rows[110:]]
    expected = set()
    for earlier, later in ((splits[:1], splits[1]), (splits[:2], splits[2])):
        for second in later:
            if any(jaccard(first.text, second.text) >= 0.8 for split in earlier for first in split):
                expected.add(second.source)
    leaks = leaks_between(splits[0], splits[1], splits[2])
    assert {leak.second_source for leak in leaks} == expected
    assert len(leaks) == len(expected) > 10
    assert {leak.kind for leak in leaks} == {"near-duplicate", "same text"}


@pytest.mark.parametrize(
    ("later", "kind"),
    [
        (row(2, "Where is my card?"), "same text"),
        (row(2, "WHERE is my card!"), "same text"),
        (row(2, "something else", group="g1"), "same group"),
        (Row("x", "data.jsonl:1", (Message("user", "another text"),), "a"), "same source"),
    ],
)
def test_a_planted_leak_is_named(later: Row, kind: LeakKind) -> None:
    first = row(1, "where is my card?", group="g1")
    placements: list[tuple[list[Row], list[Row], list[Row]]] = [
        ([first], [later], []),
        ([first], [], [later]),
        ([], [first], [later]),
    ]
    for splits in placements:
        (leak,) = leaks_between(*splits)
        names = [name for name, rows in zip(SPLITS, splits, strict=True) if rows]
        assert leak == Leak(kind, names[0], first.source, names[1], later.source)


def test_duplicates_within_one_split_are_no_leak() -> None:
    same = [row(number, "where is my card?", group="g1") for number in range(3)]
    assert leaks_between(same, [], []) == leaks_between([], same, []) == leaks_between([], [], same) == ()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="ab +.é😀", max_size=12), min_size=1, max_size=12), st.randoms())
def test_rows_of_different_groups_are_never_near_duplicates(texts: list[str], chance: random.Random) -> None:
    found = groups_of(*texts)
    for (first, one), (second, other) in itertools.combinations(zip(texts, found, strict=True), 2):
        if one != other:
            assert jaccard(first, second) < 0.8
        if words(first) == words(second):
            assert one == other
    order = list(range(len(texts)))
    chance.shuffle(order)
    assert groups_of(*(texts[place] for place in order)) == [found[place] for place in order]
