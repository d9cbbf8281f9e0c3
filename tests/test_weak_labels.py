"""Weak labels: the label model finds how good functions are, and made rows reach the training set only."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bank_samples import TOPICS, questions
from tunesmith.cli import main
from tunesmith.data.formats import open_table
from tunesmith.data.labelling.functions import cast_votes, describe_votes, load_functions
from tunesmith.data.made import MadeRow, add_made, count_made, read_made, row_weight, write_made
from tunesmith.data.rows import ColumnsRead, rows_of
from tunesmith.data.splits import SplitSpec, split_rows
from tunesmith.data.versions import freeze, load_dataset
from tunesmith.errors import UserError
from tunesmith.records import Message
from tunesmith.stats.clusters import Codes
from tunesmith.stats.label_model import ABSTAINED, LabelModel, fit_label_model, majority_votes, voted_answers

SPEC = SplitSpec(train=None, validation=60, test=90, seed=1, rows_per_group=None)
ROWS = questions(300)
SPLIT = split_rows(ROWS, SPEC)


def planted(
    rows: int, accuracies: list[float], speaks: float, labels: int = 3, seed: int = 0
) -> tuple[Codes, Codes]:
    """The truth, and votes of functions that speak on a share of the rows and are right so often."""
    chance = np.random.default_rng(seed)
    truth = chance.integers(labels, size=rows)
    votes = np.full((rows, len(accuracies)), ABSTAINED)
    for place, accuracy in enumerate(accuracies):
        wrong = (truth + chance.integers(1, labels, size=rows)) % labels
        said = np.where(chance.random(rows) < accuracy, truth, wrong)
        votes[:, place] = np.where(chance.random(rows) < speaks, said, ABSTAINED)
    return truth, votes


def test_the_label_model_finds_each_functions_accuracy_without_a_true_label() -> None:
    accuracies = [0.95, 0.85, 0.7, 0.6, 0.55]
    truth, votes = planted(4000, accuracies, speaks=0.6)
    model = fit_label_model(votes, 3)
    assert np.abs(model.accuracy() - accuracies).max() < 0.04
    told = (votes != ABSTAINED).any(axis=1)
    probabilities = model.probabilities(votes)
    right = probabilities.argmax(axis=1)[told] == truth[told]
    plain = majority_votes(votes, 3)[told] == truth[told]
    assert right.mean() > plain.mean() + 0.05
    # Probabilities mean what they say: among answers of 0.8 to 0.9 about so many are right.
    sure = probabilities.max(axis=1)[told]
    for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 1.0)):
        inside = (sure >= low) & (sure < high)
        assert abs(right[inside].mean() - sure[inside].mean()) < 0.05


def test_functions_that_know_one_label_only_are_weighed_too() -> None:
    truth, votes = planted(3000, [0.9, 0.9, 0.9, 0.6, 0.6, 0.6], speaks=0.9)
    for place in range(6):
        votes[votes[:, place] != place % 3, place] = ABSTAINED
    model = fit_label_model(votes, 3)
    given = [votes[:, place] != ABSTAINED for place in range(6)]
    shares = [(votes[said, place] == truth[said]).mean() for place, said in enumerate(given)]
    assert model.accuracy() == pytest.approx(shares, abs=0.04)
    told = (votes != ABSTAINED).any(axis=1)
    right = model.probabilities(votes).argmax(axis=1) == truth
    assert right[told].mean() > (majority_votes(votes, 3) == truth)[told].mean()


def test_probabilities_are_those_of_bayes_rule() -> None:
    tables = np.array([[[0.5, 0.1, 0.4], [0.2, 0.6, 0.2]], [[0.3, 0.3, 0.4], [0.1, 0.2, 0.7]]])
    model = LabelModel(np.array([0.2, 0.8]), tables, 1)
    votes = np.array([[0, 1], [ABSTAINED, 0], [ABSTAINED, ABSTAINED]])
    found = model.probabilities(votes)
    joint = np.array([
        [0.2 * 0.5 * 0.3, 0.8 * 0.2 * 0.2],
        [0.2 * 0.4 * 0.3, 0.8 * 0.2 * 0.1],
        [0.2 * 0.4 * 0.4, 0.8 * 0.2 * 0.7],
    ])  # fmt: skip
    assert found == pytest.approx(joint / joint.sum(axis=1, keepdims=True))
    assert model.accuracy() == pytest.approx([(0.1 + 0.48) / (0.12 + 0.64), (0.06 + 0.16) / (0.12 + 0.24)])
    best, sure = voted_answers(votes, found)
    assert best.tolist() == [found[0].argmax(), 0, ABSTAINED]
    assert sure.tolist() == [found[0].max(), found[1][0], 0.0]


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.intp, (12, 4), elements=st.integers(-1, 2)).filter(lambda votes: (votes >= 0).any()),
    st.permutations(range(4)),
)
def test_the_order_of_functions_plays_no_part(votes: Codes, order: list[int]) -> None:
    model, other = fit_label_model(votes, 3), fit_label_model(votes[:, order], 3)
    assert other.accuracy() == pytest.approx(model.accuracy()[order], abs=1e-3)
    probabilities = model.probabilities(votes)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(12))
    assert model.tables.sum(axis=2) == pytest.approx(np.ones((4, 3)))


def test_functions_come_from_python_and_yaml_and_their_mistakes_are_named(tmp_path: Path) -> None:
    python, rules = tmp_path / "rules.py", tmp_path / "rules.yaml"
    python.write_text(
        "import re\n"
        "def lost(text):\n    return 'card lost' if _says(text, 'stolen') else None\n"
        "def _says(text, word):\n    return word in text\n"
        "def by_city(text, fields):\n    return 'fees' if fields.get('city') == 'Rome' else None\n"
    )
    rules.write_text(
        "rules:\n- {label: fees, pattern: fee|refund, unless: stolen}\n"
        "- {name: x, label: transfer, pattern: IBAN}\n"
    )
    functions = load_functions([python, rules])
    assert [function.name for function in functions] == ["lost", "by_city", "fees: fee|refund", "x"]
    texts = ["a stolen card, refund", "the fee", "my iban", "nothing"]
    rows = [replace(ROWS[0], messages=(Message("user", text),)) for text in texts]
    rows[1] = replace(rows[1], fields=(("city", "Rome"),))
    votes, labels = cast_votes(functions, rows, ["card lost", "fees", "transfer"])
    assert votes.tolist() == [[0, -1, -1, -1], [-1, 1, 1, -1], [-1, -1, -1, 2], [-1, -1, -1, -1]]
    told = describe_votes(functions, votes, labels)
    assert [(one.voted, one.overlaps, one.conflicts) for one in told] == [
        (1, 0, 0),
        (1, 1, 0),
        (1, 1, 0),
        (1, 0, 0),
    ]
    with pytest.raises(UserError, match="the label 'card lost', which the task does not have"):
        cast_votes(functions, rows, ["fees", "transfer"])
    broken = {
        "def f(text):\n    return 1 / 0\n": "failed on bank.jsonl:1: ZeroDivisionError",
        "def f(text):\n    return 3\n": "returned 3",
        "def f(a, b, c):\n    return None\n": "takes 3 arguments",
        "def f(:\n": "does not run: SyntaxError",
    }
    for code, message in broken.items():
        python.write_text(code)
        with pytest.raises(UserError, match=message):
            cast_votes(load_functions([python]), rows[:1])
    for text in ("rules: []\n", "- a\n", "rules:\n- {label: fees}\n", "rules:\n- {label: a, pattern: '('}\n"):
        rules.write_text(text)
        with pytest.raises(UserError, match=r"rules\.yaml"):
            load_functions([rules])


def made(text: str, target: str, of: str | None = None) -> MadeRow:
    return MadeRow("weak label", "pool.jsonl:1", (Message("user", text),), target, of, 0.9)


def test_made_rows_are_trained_on_only_and_what_would_leak_is_left_out() -> None:
    train, validation, test = SPLIT.train[0], SPLIT.validation[0], SPLIT.test[0]
    other = "fees" if train.target != "fees" else "transfer"
    given = [
        made("a wholly new question about the wire", "transfer"),
        made(test.text, test.target),
        made(validation.text + " please", validation.target),
        made(train.text, train.target),
        made(train.text, other),
        made("somebody wants to know something of that kind", test.target, of=test.id),
        made("made from a repaired row, in other words", train.target, of=train.id),
    ]
    split = add_made(SPLIT, given, ROWS, changed=[train.id])
    assert (split.validation, split.test) == (SPLIT.validation, SPLIT.test)
    (added,) = [row for row in split.train if row not in SPLIT.train]
    assert added.source == "weak label: pool.jsonl:1"
    assert added.fields == (("probability", "0.9000"), ("weight", "0.9000"))
    equal = add_made(SPLIT, given[:1], ROWS, weighed=False)
    assert [row_weight(row) for row in (added, equal.train[0])] == [0.9, 1.0]
    assert sum(row_weight(row) for row in equal.train) == len(equal.train)
    aside = {item.reason: item.rows for item in split.set_aside if item.reason.startswith("made rows: ")}
    assert aside == {
        "made rows: like a validation or test row": 1,
        "made rows: copies of other rows": 2,
        "made rows: another label than a row like them": 1,
        "made rows: made from rows that are not trained on": 1,
        "made rows: made from rows that a repair changed": 1,
    }


def test_a_made_row_in_validation_or_test_is_never_frozen(tmp_path: Path) -> None:
    from tunesmith.data.sources import Source

    source = Source(tuple(ROWS), (), (), "", "", len(ROWS), ())
    fake = replace(SPLIT.test[0], source="swap: bank.jsonl:9")
    for split in (
        replace(SPLIT, test=(fake, *SPLIT.test[1:])),
        replace(SPLIT, validation=(fake, *SPLIT.validation[1:])),
    ):
        with pytest.raises(UserError, match="were made, not written by people: swap"):
            freeze(tmp_path, task="t", source=source, split=split, spec=SPEC)
    assert list(tmp_path.iterdir()) == []
    split = add_made(SPLIT, [made("a wholly new question about the wire", "transfer")], ROWS)
    frozen = freeze(tmp_path, task="t", source=replace(source, made_rows=1), split=split, spec=SPEC)
    again = load_dataset(Path(frozen.folder)).manifest
    assert [(one.how, one.rows, one.weight) for one in again.made] == [("weak label", 1, 0.9)]
    assert sum(one.rows for one in again.splits.values()) + sum(one.rows for one in again.set_aside) == 301
    plain = freeze(tmp_path, task="t", source=source, split=SPLIT, spec=SPEC).manifest
    assert plain.test_sha256 == again.test_sha256
    assert plain.version != again.version


def test_made_rows_survive_their_file_and_nothing_else_is_taken_for_one(tmp_path: Path) -> None:
    rows = [made("one", "fees"), replace(made("two", "fees", of="id3"), probability=None, how="swap")]
    path = tmp_path / "made.jsonl"
    write_made(path, rows)
    assert read_made(path) == tuple(rows)
    assert count_made([]) == ()
    with pytest.raises(UserError, match="and only trained on"):
        rows_of(open_table(path), ColumnsRead(("text",), "label"))
    path.write_text('{"text": "a", "label": "b"}\n')
    with pytest.raises(UserError, match="not a row that was made by Tunesmith"):
        read_made(path)


def test_from_functions_to_a_frozen_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNESMITH_RUNS", raising=False)

    def lines(name: str, records: list[dict[str, Any]]) -> None:
        Path(name).write_text("".join(json.dumps(record) + "\n" for record in records))

    lines("bank.jsonl", [{"text": row.text, "label": row.target} for row in ROWS])
    pool = questions(200, seed=5)
    lines("pool.jsonl", [{"text": row.text} for row in pool])
    rules = [{"label": topic, "pattern": "|".join(words.split()[:5])} for topic, words in _words().items()]
    rules.append({"name": "poor", "label": "fees", "pattern": "today"})
    Path("rules.yaml").write_text(json.dumps({"rules": rules}))
    assert main(["new", "bank", "--data", "bank.jsonl", "--input", "text", "--target", "label"]) == 0
    capsys.readouterr()
    weak = ["data", "weak", "bank/task.yaml", "--functions", "rules.yaml", "--pool", "pool.jsonl"]
    assert main([*weak, "--out", "bank/weak.jsonl", "--least-probability", "0.6", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert 100 < done["written_rows"] <= done["voted_rows"] <= done["pool_rows"] == 200
    assert done["gold"]["accuracy"]["value"] > 0.9
    assert done["gold"]["accuracy"]["low"] <= done["gold"]["accuracy"]["value"]
    accuracy = {one["name"]: one["estimated_accuracy"] for one in done["functions"]}
    assert accuracy["poor"] == min(accuracy.values())
    truth = {row.text: row.target for row in pool}
    written = read_made(Path("bank/weak.jsonl"))
    assert sum(row.target == truth[row.messages[0].content] for row in written) / len(written) > 0.9

    task = Path("bank/task.yaml")
    assert "#train_extra: weak.jsonl" in task.read_text()
    task.write_text(task.read_text().replace("#train_extra: weak.jsonl", "train_extra: weak.jsonl"))
    assert main(["data", "freeze", "bank/task.yaml", "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)["manifest"]
    assert manifest["made"][0]["how"] == "weak label"
    assert 100 < manifest["made"][0]["rows"] <= len(written)
    assert [source["name"] for source in manifest["sources"]] == ["bank.jsonl", "weak.jsonl"]
    assert main(["new", "other", "--data", "bank/weak.jsonl", "--input", "source", "--target", "target"]) == 0
    assert main(["data", "freeze", "other/task.yaml"]) == 2
    assert "named as data.train_extra" in " ".join(capsys.readouterr().err.split())


def _words() -> dict[str, str]:
    return {topic: " ".join(words) for topic, words in TOPICS.items()}
