"""Rows far from the task, rare domains and other languages are found; what cannot be told is unmeasured."""

import random

import pytest

from audit_samples import audit_data, clean, found_rows, precision_and_recall, texts
from tunesmith.data.audit.findings import AuditData
from tunesmith.data.audit.relevance import TaskText, check_domains, check_language, check_relevance
from tunesmith.errors import UserError

DISHES = ["onion soup", "apple cake", "roast lamb", "lentil stew", "fish curry", "potato salad", "plum tart"]
STEPS = [
    "chop the garlic",
    "simmer gently",
    "whisk two eggs",
    "preheat the oven",
    "add butter and salt",
    "knead dough",
]


def recipes(rows: int) -> list[str]:
    chance = random.Random(9)
    return [
        f"For the {chance.choice(DISHES)} {chance.choice(STEPS)}, then {chance.choice(STEPS)}."
        for _ in range(rows)
    ]


def with_recipes(rows: int, planted: int) -> tuple[AuditData, set[int]]:
    pairs = texts(rows)
    places = set(range(0, rows, rows // planted))
    other = iter(recipes(len(places)))
    return audit_data(
        [(next(other) if n in places else text, x) for n, (text, x) in enumerate(pairs)]
    ), places


EXAMPLES = tuple(text for text, _ in texts(8, seed=77))
DESCRIPTION = "Sort messages of bank customers about a card, a transfer, a payment or a refund."


@pytest.mark.parametrize(
    "task", [TaskText(EXAMPLES), TaskText(description=DESCRIPTION), TaskText(EXAMPLES[:2])]
)
def test_rows_of_another_subject_are_found(task: TaskText) -> None:
    data, planted = with_recipes(500, 25)
    precision, recall = precision_and_recall(check_relevance(data, task), planted)
    assert precision == 1.0
    assert recall >= 0.9


def test_rows_of_the_task_are_not_far_from_it() -> None:
    result = check_relevance(clean(), TaskText(EXAMPLES))
    assert result.answer == "passed"
    assert result.findings == ()


def test_without_anything_to_compare_with_relevance_is_unmeasured() -> None:
    assert check_relevance(clean(), TaskText()).answer == "unmeasured"
    assert check_relevance(audit_data([("ok", "x"), ("the", "x")]), TaskText(EXAMPLES)).answer == "unmeasured"


def test_where_examples_have_nothing_in_common_relevance_is_unmeasured() -> None:
    chance = random.Random(4)

    def anything() -> str:
        return " ".join("".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=8)) for _ in range(6))

    data = audit_data([*texts(200), *[(anything(), "x") for _ in range(200)]])
    examples = tuple(anything() for _ in range(6)) + EXAMPLES[:4]
    assert check_relevance(data, TaskText(examples)).answer == "unmeasured"


def test_the_mix_of_domains_comes_with_intervals_and_rare_ones_are_noted() -> None:
    data = audit_data(texts(400), desk=["cards"] * 300 + ["loans"] * 98 + ["tax"] * 2)
    result = check_domains(data, "desk")
    assert result.summary.startswith("3 domains in column 'desk': cards 75.0 % [70.5, 79.0], loans 24.5 % [")
    assert [(finding.severity, finding.rows) for finding in result.findings] == [("note", (398, 399))]
    assert check_domains(data, None).answer == "unmeasured"
    with pytest.raises(UserError, match="no column 'area'"):
        check_domains(data, "area")


GERMAN = [
    "Meine Karte wurde gestern im Supermarkt abgelehnt, obwohl genug Geld auf dem Konto war.",
    "Wie lange dauert es, bis die Überweisung endlich auf meinem Konto ankommt?",
]
FRENCH = ["Je voudrais savoir pourquoi ma carte bancaire a été refusée hier soir à la boulangerie."]
CHINESE = ["我的银行卡昨天在超市被拒绝了，请问应该怎么办？"]


def test_inputs_in_another_language_are_found() -> None:
    pairs = texts(400)
    foreign = [*GERMAN, *FRENCH, *CHINESE]
    planted = {n: foreign[n // 20 % 4] for n in range(0, 400, 20)}
    data = audit_data([(planted.get(n, text), x) for n, (text, x) in enumerate(pairs)])
    result = check_language(data)
    assert precision_and_recall(result, set(planted)) == (1.0, 1.0)
    assert found_rows(check_language(data, languages=("en", "de", "fr", "zh"))) == set()
    assert found_rows(check_language(data, languages=("de",))) >= set(range(400)) - set(planted)


def test_short_inputs_are_uncertain_and_never_a_finding() -> None:
    pairs = [*texts(100), ("Danke sehr", "x"), ("ok", "x"), ("12345", "x"), ("", "x"), ("¿qué tal?", "x")]
    result = check_language(audit_data(pairs))
    assert result.answer == "passed"
    assert "5 of 105 (4.8 %) inputs too short or uncertain" in result.summary
    assert check_language(audit_data([("ok", "x")])).answer == "unmeasured"
