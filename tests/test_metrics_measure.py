"""Metrics with intervals, gains in any metric, and a user's own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef

from metric_samples import answered
from tunesmith.errors import UserError
from tunesmith.evaluation.metrics.answered import Answered
from tunesmith.evaluation.metrics.catalogue import METRICS
from tunesmith.evaluation.metrics.measure import measure, paired_metric_gain
from tunesmith.evaluation.metrics.own import OwnMetric, load_own_metric
from tunesmith.records import PairedGain
from tunesmith.stats.answers import worth_it
from tunesmith.stats.paired import paired_gain


def bounds(gain: PairedGain) -> tuple[float, float]:
    assert gain.low is not None
    assert gain.high is not None
    return gain.low, gain.high


def two_candidates(rows: int, seed: int = 0) -> tuple[Answered, Answered]:
    """A strong and a weak candidate with everything that any metric asks for."""
    random = np.random.default_rng(seed)
    targets = [str(label) for label in random.choice(["card", "fee", "none"], rows)]
    groups = [f"g{row // 2}" for row in range(rows)]

    def candidate(skill: float) -> Answered:
        sure = random.uniform(0.3, 1, rows)
        answers = [
            target if luck < skill else str(random.choice(["card", "fee", "none"]))
            for target, luck in zip(targets, random.random(rows), strict=True)
        ]
        return answered(
            targets,
            answers,
            groups,
            labels=["card", "fee", "none"],
            none_label="none",
            confidences=sure,
            label_probabilities=random.dirichlet([1, 1, 1], rows),
            target_nats=random.gamma(2, 1 / skill, rows),
            target_tokens=np.full(rows, 2.0),
            entails=lambda source, sentence: 0.7,
        )

    return candidate(0.9), candidate(0.5)


TEXT_METRICS = {
    "schema_valid",
    "field_f1",
    "field_f1_by_value",
    "entity_f1",
    "entity_f1_by_value",
    "distinct_2",
    "distinct_3",
}


def test_every_metric_has_an_interval_and_its_n() -> None:
    strong, _ = two_candidates(200)
    names = [name for name in METRICS if name not in TEXT_METRICS]
    card = measure(names, strong)
    assert list(card) == names
    for name, estimate in card.items():
        assert estimate.low <= estimate.value <= estimate.high, name
        assert 2 <= estimate.groups <= estimate.rows <= 200, name
        assert estimate.level == 0.95
    wider = measure(names, strong, level=0.99)
    for name in names:
        assert wider[name].low <= card[name].low, name
        assert wider[name].high >= card[name].high, name


def test_a_gain_points_up_whichever_way_the_metric_is_better() -> None:
    strong, weak = two_candidates(300)
    for name in (
        "accuracy",
        "macro_f1",
        "mcc",
        "hamming_loss",
        "false_accept_rate",
        "perplexity",
        "bits_per_byte",
    ):
        gain = paired_metric_gain(name, strong, weak, "weak", 0.05)
        back = paired_metric_gain(name, weak, strong, "strong", 0.05)
        assert bounds(gain)[0] > 0, name
        assert gain.value == pytest.approx(-back.value), name
        assert bounds(back) == pytest.approx((-bounds(gain)[1], -bounds(gain)[0])), name
        assert worth_it(gain, 0.0, "estimate") == "passed"


def test_a_gain_is_the_difference_of_the_two_values() -> None:
    strong, weak = two_candidates(200)
    for name, metric in METRICS.items():
        if name in TEXT_METRICS or metric.better is None:
            continue
        own, other = measure([name], strong)[name].value, measure([name], weak)[name].value
        gain = paired_metric_gain(name, strong, weak, "weak", 0.05)
        assert gain.value == pytest.approx(own - other if metric.better == "larger" else other - own), name
        low, high = bounds(gain)
        assert low < high or own == other, name


def test_the_gain_in_accuracy_is_the_verdicts_own() -> None:
    strong, weak = two_candidates(200)
    right, rival = (
        [answer == target for answer, target in zip(one.predictions, one.targets, strict=True)]
        for one in (strong, weak)
    )
    reference = paired_gain(right, rival, strong.groups, "weak", 0.03)
    assert paired_metric_gain("accuracy", strong, weak, "weak", 0.03) == reference


def test_wins_and_losses_of_a_corpus_metric_are_rows_answered_differently() -> None:
    targets = ["card", "fee"] * 40
    rival = ["card"] * 80
    candidate = ["card", *rival[1:]]
    candidate[1] = candidate[3] = "fee"
    gain = paired_metric_gain(
        "macro_f1", answered(targets, candidate), answered(targets, rival), "rival", 0.05
    )
    assert (gain.wins, gain.losses) == (2, 0)


def test_a_metric_without_a_better_direction_has_no_gain() -> None:
    strong, weak = two_candidates(100)
    with pytest.raises(UserError, match="neither more nor less"):
        paired_metric_gain("length_ratio", strong, weak, "weak", 0.05)


def test_other_rows_and_misspelt_names_are_refused() -> None:
    strong, _ = two_candidates(100)
    _, other = two_candidates(102)
    with pytest.raises(ValueError, match="same rows"):
        paired_metric_gain("accuracy", strong, other, "other", 0.05)
    with pytest.raises(UserError, match="did you mean macro_f1"):
        measure(["marco_f1"], strong)
    with pytest.raises(ValueError, match="2 rows, but 1 predictions"):
        answered(["a", "b"], ["a"])


Draw = tuple[list[str], list[str]]


@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_of_corpus_metrics_hold_the_truth(clustered: bool) -> None:
    """20 labels, 300 rows, F1 near 0.75; in clusters all rows share a target, and half of them their luck."""
    random = np.random.default_rng(3)
    shares = random.dirichlet(np.full(20, 2.0)) * 0.6 + 0.02
    skill = random.uniform(0.5, 0.95, 20)

    def draw(rows: int) -> tuple[Draw, list[str]]:
        group = (
            np.repeat(np.arange(rows), random.integers(1, 5, rows))[:rows] if clustered else np.arange(rows)
        )
        target = random.choice(20, rows, p=shares / shares.sum())[group]
        luck = np.where(random.random(rows) < 0.5, random.random(rows)[group], random.random(rows))
        wrong = (target + random.integers(1, 4, rows)) % 20
        answer = np.where(luck < skill[target], target, wrong)
        return (target.astype(str).tolist(), answer.astype(str).tolist()), group.astype(str).tolist()

    references: dict[str, Callable[[list[str], list[str]], float]] = {
        "macro_f1": lambda t, a: f1_score(t, a, average="macro"),
        "weighted_f1": lambda t, a: f1_score(t, a, average="weighted"),
        "mcc": matthews_corrcoef,
    }
    (targets, answers), _ = draw(100_000)
    truth = {name: reference(targets, answers) for name, reference in references.items()}
    held = dict.fromkeys(references, 0)
    repetitions = 200
    for _ in range(repetitions):
        (targets, answers), groups = draw(300)
        for name, estimate in measure(list(references), answered(targets, answers, groups)).items():
            held[name] += estimate.low <= truth[name] <= estimate.high
    least = 0.95 - 2.6 * (0.95 * 0.05 / repetitions) ** 0.5
    assert all(number / repetitions >= least for number in held.values()), held


def test_two_equal_candidates_are_seldom_told_apart_in_macro_f1() -> None:
    random = np.random.default_rng(4)
    passed = 0
    for _ in range(150):
        targets = random.integers(0, 10, 200).astype(str)
        one, two = (
            np.where(random.random(200) < 0.8, targets, random.integers(0, 10, 200).astype(str)).tolist()
            for _ in range(2)
        )
        gain = paired_metric_gain(
            "macro_f1", answered(targets.tolist(), one), answered(targets.tolist(), two), "r", 0.05
        )
        passed += worth_it(gain, 0.0, "estimate") == "passed"
    assert passed <= 150 * 0.05 + 3 * (150 * 0.05 * 0.95) ** 0.5


def own(folder: Path, code: str, name: str = "score") -> OwnMetric:
    (folder / "my_metrics.py").write_text(code, encoding="utf-8")
    return load_own_metric(f"my_metrics.py:{name}", folder)


def test_a_users_own_metric_is_measured_and_gains_like_any_other(tmp_path: Path) -> None:
    metric = own(tmp_path, "def score(prediction, row):\n    return 2.0 * (prediction == row['target'])\n")
    strong, weak = two_candidates(200)
    card = measure(["accuracy", metric], strong)
    assert card["my_metrics.py:score"].value == pytest.approx(2 * card["accuracy"].value)
    gain = paired_metric_gain(metric, strong, weak, "weak", 0.05)
    assert bounds(gain)[0] > 0
    assert not list(tmp_path.glob("__pycache__"))


def test_an_own_metric_sees_the_whole_row_and_cannot_change_it(tmp_path: Path) -> None:
    code = (
        "def score(prediction, row):\n"
        "    assert set(row) == {'id', 'source', 'group', 'target', 'input', 'messages'}\n"
        "    assert row['messages'] == [{'role': 'user', 'content': 'Why?'}] and row['input'] == 'Why?'\n"
        "    row['target'] = prediction\n"
        "    return True\n"
    )
    given_rows = answered(["a", "b"], ["x", "y"], texts=["Why?", "Why?"])
    assert measure([own(tmp_path, code)], given_rows)["my_metrics.py:score"].value == 1
    assert given_rows.targets == ["a", "b"]


@pytest.mark.parametrize(
    ("reference", "code", "problem"),
    [
        ("my_metrics.py", "", "neither a metric's name nor a function in a file"),
        ("my_metrics.py:not a name", "", "neither a metric's name nor a function in a file"),
        ("other.py:score", "", r"there is no file .*other\.py"),
        (
            "my_metrics.py:score",
            "def scores(prediction, row):\n    return 1.0\n",
            r"no function 'score' \(found: scores\)",
        ),
        ("my_metrics.py:score", "score = 3\n", r"no function 'score' \(found: none\)"),
        (
            "my_metrics.py:score",
            "def score(prediction):\n    return 1.0\n",
            "cannot be called with a prediction and a row",
        ),
        ("my_metrics.py:score", "def score(prediction, row)\n", r"does not run: SyntaxError.*line 1"),
        ("my_metrics.py:score", "import math\n1 / 0\n", r"does not run: ZeroDivisionError.*line 2"),
        ("my_metrics.py:score", "raise SystemExit(0)\n", "does not run: SystemExit"),
        ("my_metrics.py:score", "import no_such_module_here\n", "does not run: ModuleNotFoundError"),
    ],
)
def test_a_file_or_function_that_cannot_be_used_is_explained(
    tmp_path: Path, reference: str, code: str, problem: str
) -> None:
    (tmp_path / "my_metrics.py").write_text(code, encoding="utf-8")
    with pytest.raises(UserError, match=problem):
        load_own_metric(reference, tmp_path)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return 'good'", r"returned 'good' \(str\) for row data\.jsonl:2"),
        ("return None", r"returned None \(NoneType\) for row data\.jsonl:2"),
        ("return float('nan')", r"returned nan for row data\.jsonl:2"),
        ("return {'a': 1}['b']", r"failed on row data\.jsonl:2: KeyError: 'b' \(line 4 of my_metrics\.py\)"),
    ],
)
def test_a_failure_of_an_own_metric_names_the_row_and_the_cause(
    tmp_path: Path, body: str, problem: str
) -> None:
    code = f"def score(prediction, row):\n    if prediction == 'x':\n        return 0.5\n    {body}\n"
    with pytest.raises(UserError, match=problem) as caught:
        measure([own(tmp_path, code)], answered(["a", "b"], ["x", "y"]))
    assert caught.value.exit_code == 3


def test_the_documentation_names_every_metric_and_which_should_be_small() -> None:
    text = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
    table = text.partition("Beside them")[0]
    for name, metric in METRICS.items():
        assert f"`{name}`" in table, name
        assert (f"`{name}`↓" in table) == (metric.better == "smaller"), name
