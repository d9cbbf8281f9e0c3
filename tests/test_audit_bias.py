"""Label rates that differ between groups or drift over time are found, and chance alone is not."""

import random
from collections.abc import Sequence
from datetime import date, timedelta

import pytest

from audit_samples import audit_data, clean, found_rows, texts
from tunesmith.data.audit.bias import BiasSettings, check_group_words, check_label_rates
from tunesmith.data.audit.findings import AuditData
from tunesmith.data.audit.groups import LEXICON, counterfactual_pairs, groups_named, swapped
from tunesmith.data.audit.staleness import StalenessSettings, check_age, check_label_drift
from tunesmith.data.dates import parsed_date
from tunesmith.errors import UserError
from tunesmith.records import Message, Row


def applicants(rows: int, seed: int, women: Sequence[float], men: Sequence[float]) -> AuditData:
    """Texts about women and men, with the chances of the labels yes, no and later for each."""
    chance = random.Random(seed)
    pairs = []
    for text, _ in texts(rows, seed):
        woman = chance.random() < 0.5
        who = chance.choice(["She", "The woman", "My sister"] if woman else ["He", "The man", "My brother"])
        (label,) = chance.choices(["yes", "no", "later"], women if woman else men)
        pairs.append((f"{who} says: {text}", label))
    return audit_data(pairs)


def test_a_label_that_is_rarer_for_women_is_found() -> None:
    result = check_label_rates(applicants(800, 1, women=[3, 5, 2], men=[5, 3, 2]))
    assert result.answer == "failed"
    assert {finding.evidence.split(" in ")[0] for finding in result.findings} == {
        "gender, female: label 'yes'",
        "gender, female: label 'no'",
    }
    assert all("after Holm" in finding.evidence and "[" in finding.evidence for finding in result.findings)


def test_equal_rates_are_seldom_a_finding() -> None:
    failed = sum(
        check_label_rates(applicants(300, seed, [1, 1, 1], [1, 1, 1])).answer == "failed"
        for seed in range(40)
    )
    assert failed <= 4  # at most 5 % are expected: 2 of 40


def test_groups_in_a_named_column_are_compared() -> None:
    chance = random.Random(6)
    pairs, region = [], []
    for text, _ in texts(900):
        region.append(chance.choice(["north", "south", "west", None]))
        pairs.append((text, chance.choices(["yes", "no"], [4, 1] if region[-1] == "south" else [1, 1])[0]))
    data = audit_data(pairs, region=region)
    result = check_label_rates(data, BiasSettings(fields=("region",)))
    kinds = {finding.evidence.split(" in ")[0] for finding in result.findings}
    assert "column 'region', south: label 'no'" in kinds
    south = next(f for f in result.findings if f.evidence.startswith("column 'region', south: label 'no'"))
    assert {(region[row], pairs[row][1]) for row in south.rows} == {("south", "no")}
    with pytest.raises(UserError, match="no column 'colour'"):
        check_label_rates(data, BiasSettings(fields=("colour",)))


def test_without_groups_or_labels_label_rates_are_unmeasured() -> None:
    assert check_label_rates(clean()).answer == "unmeasured"
    free = audit_data([(text, f"{text} {n}") for n, (text, _) in enumerate(texts(100))])
    assert check_label_rates(free).answer == "unmeasured"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("She lost her card", {"gender": {"female"}}),
        ("My husband's card", {"gender": {"male"}}),
        ("a young Muslim from Kenya", {"age": {"young"}, "religion": {"muslim"}}),
        ("he said, she said", {"gender": {"female", "male"}}),
        ("American Express, French fries and Chinese food", {}),
        ("I paid in Canadian dollars; food[Italian]", {}),
        ("please polish the there shelf", {}),
        ("a Polish customer", {"nationality": {"polish"}}),
    ],
)
def test_groups_are_named_by_words_about_people_only(text: str, wanted: dict[str, set[str]]) -> None:
    assert groups_named(text) == wanted


def test_group_words_are_only_noted() -> None:
    result = check_group_words(applicants(100, 2, [1, 1, 1], [1, 1, 1]))
    assert result.answer == "passed"
    assert found_rows(result) == set()
    assert result.findings[0].evidence.startswith("100 of 100 (100 %) inputs name a group by gender: ")


@pytest.mark.parametrize(
    ("dimension", "group", "other", "before", "after"),
    [
        ("gender", "female", "male", "She gave HER card to her.", "He gave HIS card to him."),
        ("gender", "female", "male", "The card is hers, Mother said", "The card is his, Father said"),
        ("gender", "male", "female", "His wife told him it was his.", "Her wife told her it was hers."),
        ("nationality", "american", "german", "an American client", "a German client"),
        ("nationality", "german", "american", "A German and two Germans", "An American and two Americans"),
        ("age", "old", "young", "An elderly pensioner's card", "A young teenager's card"),
        ("religion", "muslim", "christian", "near the mosque", "near the church"),
    ],
)
def test_a_swap_keeps_case_and_grammar(
    dimension: str, group: str, other: str, before: str, after: str
) -> None:
    assert swapped(before, dimension, group, other) == after


def test_a_word_without_counterpart_is_not_swapped() -> None:
    assert swapped("the church", "religion", "christian", "hindu") is None


def test_counterfactual_pairs_differ_in_group_words_only_and_keep_the_label() -> None:
    data = applicants(60, 3, [1, 1, 1], [1, 1, 1])
    pairs = list(counterfactual_pairs(data.rows))
    assert [pair.row for pair in pairs] == list(range(60))
    for pair in pairs:
        row = data.rows[pair.row]
        assert pair.counterpart.target == row.target
        assert groups_named(pair.counterpart.text) == {pair.dimension: {pair.other_group}}
        before, after = row.text.split(), pair.counterpart.text.split()
        assert 1 <= sum(one != other for one, other in zip(before, after, strict=True)) <= 2
        assert swapped(pair.counterpart.text, "gender", pair.other_group, pair.group) == row.text


def test_rows_that_name_two_groups_or_none_have_no_counterpart() -> None:
    rows = tuple(Row(text, text, (Message("user", text),), "x") for text in ("he and she", "a card"))
    assert list(counterfactual_pairs(rows)) == []


def test_every_group_of_a_dimension_has_as_many_words() -> None:
    for groups in LEXICON.values():
        assert len({len(words) for words in groups.values()}) == 1
        assert all(word == word.casefold() for words in groups.values() for word in words)


def dated(rows: int, seed: int, early: Sequence[float], late: Sequence[float]) -> AuditData:
    chance = random.Random(seed)
    pairs, days = [], []
    for text, _ in texts(rows, seed):
        day = chance.randrange(730)
        days.append((date(2022, 1, 1) + timedelta(days=day)).isoformat())
        pairs.append((text, chance.choices(["a", "b", "c"], early if day < 365 else late)[0]))
    return audit_data(pairs, opened=days, customer=["x"] * rows)


def test_labels_that_drift_are_found_and_the_others_are_not() -> None:
    result = check_label_drift(dated(1500, 1, early=[5, 3, 2], late=[3, 5, 2]))
    assert result.answer == "failed"
    assert {finding.evidence.split(":")[0] for finding in result.findings} == {"label 'a'", "label 'b'"}


def test_labels_that_do_not_drift_are_seldom_a_finding() -> None:
    failed = sum(
        check_label_drift(dated(300, seed, [1, 1, 1], [1, 1, 1])).answer == "failed" for seed in range(40)
    )
    assert failed <= 4


def test_drift_without_dates_labels_or_rows_is_unmeasured() -> None:
    assert check_label_drift(clean()).answer == "unmeasured"
    assert check_label_drift(dated(50, 1, [1, 1, 1], [1, 1, 1])).answer == "unmeasured"
    same = audit_data(texts(200), opened=["2024-01-01"] * 200)
    assert check_label_drift(same).answer == "unmeasured"


def test_rows_older_than_the_task_allows_or_in_the_future_are_found() -> None:
    days: list[str | None] = ["2024-03-05"] * 200
    days[3], days[9], days[50], days[51], days[60] = (
        "2019-12-31",
        "2019-01-01T23:00:00Z",
        "2031-01-01",
        "5/3/24",
        None,
    )
    data = audit_data(texts(200), opened=days)
    settings = StalenessSettings(oldest=date(2020, 1, 1), newest=date(2025, 1, 1))
    result = check_age(data, settings)
    assert {finding.kind: finding.rows for finding in result.findings} == {
        "no date": (51, 60),
        "too old": (9, 3),
        "too new": (50,),
    }
    assert check_age(audit_data(texts(200), opened=["2024-03-05"] * 200), settings).answer == "passed"


def test_age_is_unmeasured_without_a_column_of_dates() -> None:
    assert check_age(clean()).answer == "unmeasured"
    assert check_age(audit_data(texts(100), opened=["soon"] * 100)).answer == "unmeasured"
    assert (
        check_age(audit_data(texts(100), opened=["soon"] * 100), StalenessSettings("opened")).answer
        == "unmeasured"
    )
    with pytest.raises(UserError, match="no column 'closed'"):
        check_age(clean(), StalenessSettings(column="closed"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2024-02-29", "2024-02-29T00:00:00"),
        ("2024-02-29T10:30:00+02:00", "2024-02-29T08:30:00"),
        (" 2024-02-29 10:30:00.250Z ", "2024-02-29T10:30:00.250000"),
        ("2023-02-29", None),
        ("29.02.2024", None),
        ("20240229", None),
        ("", None),
        (None, None),
    ],
)
def test_dates_are_read_as_iso_8601_in_utc(text: str | None, wanted: str | None) -> None:
    moment = parsed_date(text)
    assert (moment and moment.isoformat()) == wanted
