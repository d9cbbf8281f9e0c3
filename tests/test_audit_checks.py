"""Each check finds what was planted, and is quiet about clean data."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from bank_samples import FILLERS, TOPICS, audit_data, question, questions
from tunesmith.data.audit.agreement import check_agreement
from tunesmith.data.audit.classifier import cross_validate, group_folds, text_features
from tunesmith.data.audit.diversity import check_diversity, lexical_variety
from tunesmith.data.audit.duplicates import check_duplicates
from tunesmith.data.audit.findings import AuditData, CheckResult, Finding
from tunesmith.data.audit.labels import check_labels, find_label_errors
from tunesmith.data.audit.leaks import check_leaks
from tunesmith.data.audit.sampling import sample_rows
from tunesmith.data.audit.size import check_size
from tunesmith.records import Message, Row, SplitName


def found(result: CheckResult, kind: str) -> Finding:
    (finding,) = [finding for finding in result.findings if finding.kind == kind]
    return finding


def with_text(row: Row, text: str) -> Row:
    return replace(row, messages=(Message("user", text),))


def test_planted_copies_and_conflicts_are_found_and_nothing_else() -> None:
    rows = [replace(row, group="") for row in questions(120)]
    rows[50] = with_text(rows[50], rows[10].text.upper() + " !")
    rows[50] = replace(rows[50], target=rows[10].target)
    rows[60] = replace(with_text(rows[60], rows[11].text), target="fees")
    rows[11] = replace(rows[11], target="transfer")
    result = check_duplicates(audit_data(rows))
    assert result.answer == "failed"
    assert found(result, "copies").rows == (50,)
    assert found(result, "copies").repair == "drop"
    assert found(result, "same input, different targets").rows == (11, 60)
    assert found(result, "same input, different targets").severity == "error"
    assert len(result.findings) == 2


def test_a_limit_on_rows_per_group_and_dropping_copies_never_lose_a_text() -> None:
    rows = questions(40)
    rows = [replace(row, id=f"id{place:03}") for place, row in enumerate([*rows[::-1], *rows])]
    data = rows[::-1]
    dropped = {data[index].id for index in found(check_duplicates(audit_data(data)), "copies").rows}
    first_ids = {min(row.id for row in rows if row.text == text) for text in {row.text for row in rows}}
    assert not dropped & first_ids
    assert len(dropped) == 40


def test_clean_rows_have_no_duplicates() -> None:
    result = check_duplicates(audit_data([replace(row, group="") for row in questions(120)]))
    assert (result.answer, result.findings) == ("passed", ())


def test_near_duplicates_with_different_targets_are_a_conflict_and_groups_are_trusted() -> None:
    rows = questions(20)
    rows[3] = replace(rows[3], group="group2")
    result = check_duplicates(audit_data(rows))
    assert found(result, "near-duplicates, different targets").rows == (2, 3)
    assert found(result, "near-duplicates").severity == "note"


def split_data(rows: list[Row], splits: list[SplitName | None]) -> AuditData:
    return AuditData(tuple(rows), tuple(splits))


def test_every_training_row_that_a_given_test_repeats_is_found() -> None:
    rows = questions(100)
    splits: list[SplitName | None] = [*(("train",) * 80), *(("test",) * 20)]
    rows[4] = with_text(rows[4], rows[90].text + " ?")
    rows[7] = with_text(rows[7], rows[90].text)
    result = check_leaks(split_data(rows, splits))
    assert found(result, "in two given splits").rows == (4, 7)
    assert found(result, "in two given splits").severity == "error"
    assert check_leaks(split_data(questions(100), splits)).answer == "passed"


def test_rows_of_a_benchmark_are_found() -> None:
    rows = questions(60)
    benchmark = [*questions(30, seed=9), replace(rows[17], id="x")]
    result = check_leaks(replace(audit_data(rows), benchmarks={"bench.jsonl": tuple(benchmark)}))
    assert found(result, "in benchmark bench.jsonl").rows == (17,)
    innocent = replace(audit_data(rows), benchmarks={"bench.jsonl": tuple(benchmark[:-1])})
    assert check_leaks(innocent).answer == "passed"


def test_inputs_that_name_their_target_are_found() -> None:
    rows = [with_text(row, f"{row.text} intent {row.target}") for row in questions(120)]
    result = check_leaks(audit_data(rows))
    assert result.answer == "failed"
    assert len(found(result, "target in the input").rows) == 120


def test_a_column_that_gives_the_label_away_is_found_and_an_innocent_one_is_not() -> None:
    rows = questions(300)
    chance = random.Random(1)
    queue = tuple(f"queue {list(TOPICS).index(row.target)}" for row in rows)
    city = tuple(chance.choice(["Rome", "Oslo", "Lima"]) for _ in rows)
    ids = tuple(str(number) for number in range(300))
    result = check_leaks(audit_data(rows, queue=queue, city=city, ticket=ids))
    columns = [finding for finding in result.findings if finding.kind.startswith("column")]
    assert [finding.kind for finding in columns] == ["column queue gives the label away"]
    assert columns[0].severity == "error"
    assert check_leaks(audit_data(rows, city=city, ticket=ids)).answer == "passed"


def flipped(rows: list[Row], share: float, seed: int) -> tuple[list[Row], set[int]]:
    chance = random.Random(seed)
    places = set(chance.sample(range(len(rows)), round(share * len(rows))))
    noisy = [
        replace(row, target=chance.choice([topic for topic in TOPICS if topic != row.target]))
        if place in places
        else row
        for place, row in enumerate(rows)
    ]
    return noisy, places


def test_planted_label_errors_lead_the_list_and_their_number_is_estimated() -> None:
    clean = questions(900)
    noisy, places = flipped(clean, 0.06, seed=3)
    errors = find_label_errors(audit_data(noisy))
    assert not isinstance(errors, str)
    first = errors.rows[: len(places)]
    assert sum(row in places for row in first) / len(first) >= 0.95
    assert errors.wrong.low <= 0.06 <= errors.wrong.high
    for row, preferred in zip(first[:40], errors.preferred, strict=False):
        assert preferred == clean[row].target
    result = check_labels(audit_data(noisy))
    assert result.answer == "failed"
    likely = found(result, "likely label errors")
    assert sum(row in places for row in likely.rows) / len(likely.rows) >= 0.9
    assert len(likely.rows) >= 0.7 * len(places)
    assert likely.field == "target"
    assert likely.fixed is not None
    assert len(likely.fixed) == len(likely.rows)


def test_labels_of_the_test_say_nothing_about_other_rows() -> None:
    noisy, _ = flipped(questions(600), 0.06, seed=3)
    tested = frozenset(range(0, 600, 3))
    changed = [
        replace(row, target=noisy[(place + 3) % 600].target) if place in tested else row
        for place, row in enumerate(noisy)
    ]
    told = []
    for rows in (noisy, changed):
        errors = find_label_errors(replace(audit_data(rows), tested=tested))
        assert not isinstance(errors, str)
        of_others = [place for place, row in enumerate(errors.rows) if row not in tested]
        result = check_labels(replace(audit_data(rows), tested=tested))
        likely = [row for row in found(result, "likely label errors").rows if row not in tested]
        own = [(errors.rows[place], errors.preferred[place]) for place in of_others]
        told.append((own, errors.wrong, errors.right, likely, result.answer))
        assert errors.tested == len(tested)
        assert set(errors.rows) & tested
    assert told[0] == told[1]


def test_right_labels_pass_and_the_summary_says_so() -> None:
    result = check_labels(audit_data(questions(900)))
    assert result.answer == "passed"
    assert "likely label errors" not in {finding.kind for finding in result.findings}
    assert "wrong at random" in result.summary


@pytest.mark.parametrize("telling", [0.0, 0.6])
def test_labels_that_inputs_do_not_tell_are_unmeasured_not_wrong(telling: float) -> None:
    chance = random.Random(5)
    rows = [
        row if chance.random() < telling else with_text(row, " ".join(chance.choices(FILLERS, k=10)))
        for row in questions(600)
    ]
    result = check_labels(audit_data(rows))
    assert result.answer == "unmeasured"
    assert "cannot tell errors from hard rows" in result.summary


def test_free_text_and_few_rows_are_unmeasured() -> None:
    answers = [replace(row, target=f"answer {number}") for number, row in enumerate(questions(200))]
    assert "no labels" in check_labels(audit_data(answers)).summary
    for check in (check_labels, check_size, check_diversity):
        assert check(audit_data(questions(40))).answer == "unmeasured"
    assert check_size(audit_data(answers)).answer == "unmeasured"


def test_held_out_predictions_never_saw_their_group() -> None:
    # Rows in pairs with one label a pair: only the twin could tell which.
    chance = random.Random(2)
    rows = []
    for pair in range(150):
        label, text = chance.choice("ab"), question(chance, "fees")
        rows += [Row(f"{pair}{twin}", "x", (Message("user", text),), label, f"g{pair}") for twin in "12"]
    vectors = text_features(rows)
    assert vectors is not None
    honest = cross_validate(vectors, [row.target for row in rows], [row.group for row in rows])
    assert honest.right.mean() < 0.65
    leaky = cross_validate(vectors, [row.target for row in rows], [row.id for row in rows])
    assert leaky.right.mean() > 0.8
    assert np.allclose(honest.probabilities.sum(axis=1), 1)


def test_folds_are_whole_groups_spread_over_labels_whatever_the_order() -> None:
    groups = [f"g{number // 2}" for number in range(100)]
    targets = ["ab"[number // 50] for number in range(100)]
    fold = group_folds(groups, targets, 5)
    assert all(fold[place] == fold[place + 1] for place in range(0, 100, 2))
    assert all(np.bincount(fold[start : start + 50], minlength=5).tolist() == [10] * 5 for start in (0, 50))
    order = list(range(100))
    random.Random(0).shuffle(order)
    again = group_folds([groups[i] for i in order], [targets[i] for i in order], 5)
    assert [again[order.index(place)] for place in range(100)] == fold.tolist()


def crowd(accuracies: dict[str, float], items: int, seed: int = 0) -> AuditData:
    chance = random.Random(seed)
    rows, who = [], []
    for row in questions(items, seed):
        for name, share in accuracies.items():
            wrong = [topic for topic in TOPICS if topic != row.target]
            rows.append(replace(row, target=row.target if chance.random() < share else chance.choice(wrong)))
            who.append(name)
    return audit_data(rows, annotator=tuple(who))


def test_careful_annotators_pass_and_a_careless_one_is_named() -> None:
    careful = check_agreement(crowd({"ann": 0.98, "bob": 0.97, "cleo": 0.98}, 150))
    assert "annotators disagree" not in {finding.kind for finding in careful.findings}
    assert "Krippendorff's alpha 0.9" in careful.summary
    data = crowd({"ann": 0.97, "bob": 0.97, "cleo": 0.3}, 150)
    result = check_agreement(data)
    assert result.answer == "failed"
    assert found(result, "annotator cleo is unreliable").severity == "warning"
    consensus = found(result, "against the consensus")
    truth = {row.id: row.target for row in questions(150)}
    assert consensus.fixed is not None
    right = [
        fixed == truth[data.rows[row].id] for row, fixed in zip(consensus.rows, consensus.fixed, strict=True)
    ]
    assert sum(right) / len(right) > 0.9
    assert check_agreement(audit_data(questions(50))).answer == "unmeasured"


def test_answers_of_several_people_in_an_export_are_compared() -> None:
    accuracies = {"ann": 0.97, "bob": 0.97, "cleo": 0.3}
    data = crowd(accuracies, 150)
    together = []
    for start in range(0, len(data.rows), 3):
        given = tuple(
            (name, row.target) for name, row in zip(accuracies, data.rows[start : start + 3], strict=True)
        )
        answers = [answer for _, answer in given]
        most = max(answers, key=answers.count)
        if answers.count(most) > 1:  # a reader sets ties aside
            together.append(replace(data.rows[start], target=most, annotations=given))
    result = check_agreement(audit_data(together))
    assert found(result, "annotator cleo is unreliable").severity == "warning"
    assert "whose annotators tied were set aside before" in result.summary
    by_column = check_agreement(data)
    assert by_column.summary.split(";")[0].split(",")[0] == result.summary.split(";")[0].split(",")[0]
    right = {row.id: row.target for row in questions(150)}
    planted = [
        replace(row, target="fees" if right[row.id] != "fees" else "transfer") for row in together[:10]
    ]
    consensus = found(check_agreement(audit_data([*planted, *together[10:]])), "against the consensus")
    assert len(set(range(10)) & set(consensus.rows)) >= 9


def test_two_annotators_get_cohens_kappa() -> None:
    assert "Cohen's kappa 0.9" in check_agreement(crowd({"ann": 0.97, "bob": 0.97}, 200)).summary


def test_balance_names_dominant_and_thin_labels() -> None:
    rows = questions(300)
    skewed = [replace(row, target="fees" if place >= 9 else "rare") for place, row in enumerate(rows)]
    result = check_diversity(audit_data(skewed))
    assert len(found(result, "one label dominates").rows) == 291
    assert found(result, "thin labels").rows == tuple(range(9))
    assert check_diversity(audit_data(rows)).answer == "passed"


def test_redundant_rows_show_in_the_summary() -> None:
    rows = questions(200)
    same = [with_text(row, rows[place % 10].text) for place, row in enumerate(rows)]
    assert "100% of rows are very close" in check_diversity(audit_data(same)).summary
    variety = lexical_variety([["a", "b", "a", "b"], ["a", "b"]])
    assert variety["type_token"] == pytest.approx(2 / 6)
    assert variety["distinct_2"] == pytest.approx(2 / 4)


def test_size_tells_enough_from_not_enough() -> None:
    assert check_size(audit_data(questions(900))).answer == "passed"
    chance = random.Random(4)
    # 60 labels, each told by one of 12 words of its own: 360 rows have not shown most of the words.
    rows = []
    for number in range(360):
        label = number % 60
        text = " ".join(
            [*chance.choices(["please", "my", "the"], k=4), f"w{label}x{chance.randrange(12)}"] * 2
        )
        rows.append(Row(f"{number}", "x", (Message("user", text),), f"label {label}", f"g{number}"))
    result = check_size(audit_data(rows))
    assert result.answer == "failed"
    assert "twice as many would bring +" in result.summary
    few = check_size(audit_data([replace(row, group=f"g{number % 4}") for number, row in enumerate(rows)]))
    assert few.answer == "unmeasured"
    assert "360 rows in 4 groups" in few.summary


def test_a_sample_takes_whole_groups_and_ignores_order() -> None:
    rows = [replace(row, group=f"g{place // 3}") for place, row in enumerate(questions(300))]
    taken = sample_rows(rows, 100)
    assert 97 <= len(taken) <= 100
    chosen = {rows[index].group for index in taken}
    assert len(taken) == 3 * len(chosen)
    backwards = list(reversed(rows))
    assert {backwards[index].group for index in sample_rows(backwards, 100)} == chosen
    assert sample_rows(rows, 300) == tuple(range(300))
