"""What to label next: the queue finds what the labelled rows lack, and gaps are told in words."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from bank_samples import FILLERS, TOPICS, question, questions
from tunesmith.cli import main
from tunesmith.data.labelling.gaps import coverage_gaps, frequent_terms
from tunesmith.data.labelling.queue import PoolCluster, rows_to_label
from tunesmith.data.sources import SourceSpec, read_source
from tunesmith.errors import UserError
from tunesmith.records import Message, Row
from tunesmith.stats.disagreement import disagreement, entropy, percentiles


def row(number: int, text: str, target: str = "") -> Row:
    return Row(f"p{number}", f"pool.jsonl:{number}", (Message("user", text),), target)


def planted_pool() -> tuple[list[Row], set[str]]:
    """300 rows like the labelled ones, and 60 that mix the words of two topics."""
    chance = random.Random(3)
    pool = [row(number, one.text) for number, one in enumerate(questions(300, seed=4))]
    hard = []
    for number in range(60):
        first, second = chance.sample(list(TOPICS), 2)
        mixed = chance.choices(FILLERS, k=6)
        mixed += chance.sample(TOPICS[first], 2) + chance.sample(TOPICS[second], 2)
        chance.shuffle(mixed)
        hard.append(row(1000 + number, " ".join([*mixed, str(chance.randrange(10**6))])))
    return pool + hard, {one.id for one in hard}


def test_doubtful_rows_come_before_rows_like_those_that_are_labelled() -> None:
    pool, hard = planted_pool()
    queue = rows_to_label(questions(240), pool, 50)
    chosen = [one.row.id for one in queue.suggestions]
    # A sixth of the pool is planted; the queue also wants rows that differ.
    assert sum(one in hard for one in chosen) > 2 * 50 / 6
    assert chosen == [one.row.id for one in rows_to_label(questions(240), pool, 50).suggestions]
    assert all(one.reasons[0].startswith("unsure: ") for one in queue.suggestions)
    assert sum(cluster.pool_rows for cluster in queue.clusters) == queue.looked_at == 360


def test_a_kind_of_row_that_nobody_labelled_is_found_and_told() -> None:
    chance = random.Random(5)
    strange = "mortgage house broker appraisal instalment fixed"
    pool = [row(number, one.text) for number, one in enumerate(questions(200, seed=6))]
    pool += [
        row(
            900 + number,
            " ".join([*chance.choices(FILLERS, k=3), *chance.sample(strange.split(), 4), str(number)]),
        )
        for number in range(60)
    ]
    labelled = questions(240)
    queue = rows_to_label(labelled, pool, 40)
    assert sum(int(one.row.id[1:]) >= 900 for one in queue.suggestions) > 60 / 260 * 40
    gaps = [gap for gap in coverage_gaps(labelled, queue.clusters) if gap.kind == "pool"]
    assert gaps
    assert set(strange.split()) & set(gaps[0].sentence.split("'")[1].split())
    assert gaps[0].rows == 0


def test_copies_are_queued_once_and_known_rows_never() -> None:
    labelled, held_out = questions(120), questions(20, seed=9)
    chance = random.Random(77)
    fresh = question(chance, "fees")
    pool = [row(0, labelled[0].text), row(1, held_out[0].text), row(2, fresh), row(3, fresh + " please")]
    pool += [row(10 + number, question(chance, "exchange")) for number in range(30)]
    queue = rows_to_label(labelled, pool, 100, others=held_out)
    chosen = {one.row.id for one in queue.suggestions}
    assert {"p0", "p1"}.isdisjoint(chosen)
    assert queue.known == 2
    assert len({"p2", "p3"} & chosen) == 1


def test_rows_that_teach_the_same_are_not_chosen_while_others_are_there() -> None:
    chance = random.Random(1)
    words = [*TOPICS["fees"], *TOPICS["transfer"], *TOPICS["exchange"], *TOPICS["identity"]]
    crowd = []
    for number in range(30):
        said = words[:]
        for place in chance.sample(range(len(said)), 2):
            said[place] = chance.choice(FILLERS)
        crowd.append(row(number, " ".join(said)))
    pool = crowd + [row(100 + number, question(chance, "identity")) for number in range(30)]
    first = rows_to_label(questions(240), pool, 20).suggestions
    assert sum(int(one.row.id[1:]) < 100 for one in first) < 12


def test_pools_without_words_and_data_without_labels_are_refused() -> None:
    with pytest.raises(UserError, match="fewer than two labels"):
        rows_to_label([row(1, "a text", "x"), row(2, "another one", "x")], [row(3, "third thing")], 1)
    assert rows_to_label(questions(60), [row(1, questions(1)[0].text)], 5).suggestions == ()


def test_disagreement_is_the_mean_divergence_from_the_mean() -> None:
    chance = np.random.default_rng(0)
    members = chance.dirichlet(np.ones(4), size=(3, 7))
    mean = members.mean(axis=0)
    divergence = (members * np.log(members / mean)).sum(axis=2).mean(axis=0)
    assert disagreement(members) == pytest.approx(divergence)
    assert disagreement(np.repeat(members[:1], 3, axis=0)) == pytest.approx(np.zeros(7), abs=1e-12)
    assert entropy(np.full((1, 4), 0.25)) == pytest.approx([np.log(4)])
    assert percentiles(np.array([3.0, 1.0, 3.0])) == pytest.approx([2 / 3, 1 / 6, 2 / 3])


THINGS = ["refund", "delivery", "invoice", "warranty"]
WHEN = ["after 30 days", "last week", "at christmas", "this morning"]
HOW = ["by phone", "in the shop", "on the website"]


def tickets(rows: int, without: tuple[str, str] | None = None, seed: int = 0) -> list[Row]:
    chance = random.Random(seed)
    made: list[Row] = []
    while len(made) < rows:
        thing, when, how = chance.choice(THINGS), chance.choice(WHEN), chance.choice(HOW)
        if without is None or not set(without) <= {thing, when, how}:
            filler = " ".join(chance.choices(FILLERS, k=4))
            made.append(row(len(made), f"my {thing} {filler} {when} {how}", f"about {thing}"))
    return made


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        (("refund", "after 30 days"), "no row labelled 'about refund' mentions '30 days' ("),
        (("this morning", "by phone"), "no row mentions both 'morning' and 'phone' ("),
    ],
)
def test_a_combination_that_nobody_wrote_is_told_in_words(without: tuple[str, str], expected: str) -> None:
    sentences = [gap.sentence for gap in coverage_gaps(tickets(600, without))]
    assert any(sentence.startswith(expected) for sentence in sentences), sentences
    assert len(sentences) <= 2


def test_data_that_holds_every_combination_has_no_gap() -> None:
    told = [len(coverage_gaps(tickets(600, seed=seed))) for seed in range(20)]
    assert sum(count > 0 for count in told) <= 2  # 5 % of data sets by chance


def test_thin_labels_and_thin_kinds_of_a_pool_are_told() -> None:
    labelled = [*tickets(300), *(row(1000 + number, f"a rare thing {number}", "rare") for number in range(4))]
    clusters = [PoolCluster("exchange rate weekend", 300, 2), PoolCluster("card lost", 700, 302)]
    sentences = [gap.sentence for gap in coverage_gaps(labelled, clusters)]
    assert sentences[0].startswith("only 4 rows labelled 'rare'; half of the labels have ")
    assert "300 of 1,000 pool rows are like 'exchange rate weekend', and 2 of 304 labelled ones" in sentences


def test_of_terms_that_stand_in_the_same_rows_the_longest_is_kept() -> None:
    texts = [one.text.lower().split() for one in tickets(400)]
    terms = frequent_terms(texts)
    assert "30 days" in terms
    assert {"30", "days"}.isdisjoint(terms)


def test_the_queue_comes_back_as_data_of_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNESMITH_RUNS", raising=False)

    def lines(name: str, records: list[dict[str, Any]]) -> None:
        Path(name).write_text("".join(json.dumps(record) + "\n" for record in records))

    lines("bank.jsonl", [{"text": one.text, "label": one.target} for one in questions(300)])
    lines("pool.jsonl", [{"text": one.text} for one in questions(120, seed=8)])
    assert main(["new", "bank", "--data", "bank.jsonl", "--input", "text", "--target", "label"]) == 0
    capsys.readouterr()
    ask = ["data", "next", "bank/task.yaml", "--pool", "pool.jsonl", "--rows", "60", "--out"]
    assert main([*ask, "queue.jsonl", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    records = [json.loads(line) for line in Path("queue.jsonl").read_text().splitlines()]
    assert len(records) == len(done["queue"]) == 60
    assert all(record["label"] == "" and record["proposed"] in TOPICS for record in records)

    assert main([*ask, "queue.json", "--format", "label-studio"]) == 0
    assert "60 rows to label" in capsys.readouterr().out
    config = ElementTree.fromstring(Path("queue.config.xml").read_text())
    assert [choice.get("value") for choice in config.iter("Choice")] == sorted(TOPICS)
    tasks = json.loads(Path("queue.json").read_text())
    control = config.find("Choices")
    assert control is not None
    for task in tasks:
        result = dict(task["predictions"][0]["result"][0], from_name=control.get("name"))
        task["annotations"] = [{"completed_by": 1, "result": [result]}]
        assert task["data"][str(config.find("Text").get("value"))[1:]]  # type: ignore[union-attr]  # found above
    Path("done.json").write_text(json.dumps(tasks))
    paths = (str(tmp_path / "bank.jsonl"), str(tmp_path / "done.json"))
    spec = SourceSpec(None, paths, None, "text", "label", None, None, None, None)
    read = read_source(spec, tmp_path)
    assert len(read.rows) == 360
    assert {one.target for one in read.rows} == set(TOPICS)

    assert main([*ask, "queue.jsonl", "--format", "prodigy"]) == 0
    example = json.loads(Path("queue.jsonl").read_text().splitlines()[0])
    assert [option["id"] for option in example["options"]] == sorted(TOPICS)
    assert "accept" not in example
    examples = [json.loads(line) for line in Path("queue.jsonl").read_text().splitlines()]
    answers = ["accept"] * 57 + ["reject", "ignore", "accept"]
    for number, (one, said) in enumerate(zip(examples, answers, strict=True)):
        one |= {"answer": said, "_input_hash": number, "_task_hash": number}
        one["accept"] = [one["meta"]["proposed"]] if number < 59 else []
    lines("done.jsonl", examples)
    paths = (str(tmp_path / "bank.jsonl"), str(tmp_path / "done.jsonl"))
    read = read_source(SourceSpec(None, paths, None, "text", "label", None, None, None, None), tmp_path)
    assert len(read.rows) == 357
    proposed = [one["meta"]["proposed"] for one in examples[:57]]
    assert [one.target for one in read.rows if one.source.startswith("done")] == proposed
    assert main(["data", "next", "bank/task.yaml", "--out", "x.jsonl"]) == 2
    assert main([*ask, "x.jsonl", "--format", "csv"]) == 2
