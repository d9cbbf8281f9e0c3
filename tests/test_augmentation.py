"""Rows made from training rows: what is made, what the filters refuse, and that they reach train alone."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bank_samples import TOPICS, questions
from tiny import make_tiny_base
from tunesmith.cli import main
from tunesmith.data.labelling.augmentation import (
    attributes_of,
    from_attributes,
    paraphrased,
    read_rules,
    swapped_rows,
)
from tunesmith.data.labelling.filters import keep_made, keeps_meaning
from tunesmith.data.made import MadeRow, add_made, how_made, read_made
from tunesmith.data.splits import SplitSpec, split_rows
from tunesmith.errors import UserError
from tunesmith.records import Message, Row
from tunesmith.stages.augment import augment
from tunesmith.stages.session import Session
from tunesmith.task import load_task
from tunesmith.workspace import TaskFolder

RULES = """
paraphrases:
- {find: '^how do I (.+)\\?$', write: ['what is the way to \\1?', 'tell me how to \\1']}
templates:
- {input: 'I was charged {amount} in {city}', target: fees, where: {target: other}}
- {input: 'A question about {name}, please.'}
"""


def row(text: str, target: str, number: int = 1, **fields: str) -> Row:
    kept = tuple(sorted(fields.items()))
    return Row(
        f"id{number}", f"bank.jsonl:{number}", (Message("user", text),), target, f"g{number}", fields=kept
    )


def texts(made: list[MadeRow]) -> list[tuple[str, str]]:
    return [(one.messages[-1].content, one.target) for one in made]


def test_patterns_and_templates_write_other_rows(tmp_path: Path) -> None:
    file = tmp_path / "augment.yaml"
    file.write_text(RULES)
    rules = read_rules(file)
    rows = [
        row("How do I get a refund?", "refund"),
        row("my card", "other", 2, amount="30 €", city="Rome"),
        row("my card", "other", 3, amount="", city="Rome"),
        row("my card", "card", 4, amount="30 €", city="Rome"),
        row("name[The Punter], food[Indian]", "It is Indian.", 5),
    ]
    assert texts(paraphrased(rows, rules.paraphrases)) == [
        ("what is the way to get a refund?", "refund"),
        ("tell me how to get a refund", "refund"),
    ]
    made = from_attributes(rows, rules.templates)
    assert texts(made) == [
        ("I was charged 30 € in Rome", "fees"),
        ("A question about The Punter, please.", "It is Indian."),
    ]
    assert [one.of for one in made] == ["id2", "id5"]
    assert attributes_of(row('{"name": "Ann", "age": 3, "x": [1]}', "t", name="Bo")) == {
        "name": "Bo",
        "age": "3",
        "target": "t",
    }
    for text in ("- a", "other: []", "paraphrases: [{find: '(', write: a}]", "templates: [{input: no slot}]"):
        file.write_text(text)
        with pytest.raises(UserError, match=r"augment\.yaml"):
            read_rules(file)
    file.write_text("paraphrases: [{find: 'a', write: '\\2'}]")
    with pytest.raises(UserError, match="not a usable expression"):
        read_rules(file)


def test_group_words_are_swapped_in_the_dimensions_asked_for() -> None:
    rows = [row("she lost her card", "card lost"), row("the card is lost", "card lost", 2)]
    assert texts(swapped_rows(rows, ["gender"])) == [("he lost his card", "card lost")]
    assert swapped_rows(rows, ["age"]) == []
    with pytest.raises(UserError, match="no words to swap for 'colour'"):
        swapped_rows(rows, ["colour"])


def planted(rows: list[Row]) -> tuple[list[MadeRow], set[int]]:
    """One made row of each: half keep their topic's words, half are given another topic's."""
    chance = random.Random(0)
    made, wrong = [], set()
    for number, one in enumerate(rows):
        topic = one.target
        if number % 2:
            topic = chance.choice([other for other in TOPICS if other != one.target])
            wrong.add(number)
        text = f"{' '.join(chance.sample(TOPICS[topic], 4))} number {number + 10**6}"
        made.append(MadeRow("paraphrase", one.source, (Message("user", text),), one.target, one.id))
    return made, wrong


def test_rows_whose_label_no_longer_fits_are_filtered_out() -> None:
    rows = questions(240)
    made, wrong = planted(rows)
    kept = keep_made(made, rows)
    right = {one.of for number, one in enumerate(made) if number not in wrong}
    assert sum(one.of in right for one in kept.rows) >= 0.95 * len(right)
    assert sum(one.of not in right for one in kept.rows) <= 0.05 * len(wrong)
    assert kept.judged
    # A counterfactual is made to contradict a biased classifier: it is not asked.
    swaps = [replace(one, how="swap") for one in made]
    assert len(keep_made(swaps, rows).rows) == len(made)


def test_rows_held_out_judge_no_label_but_keep_their_copies_out() -> None:
    rows = questions(240)
    made, _ = planted(rows[:120])
    wrong = next(iter(TOPICS))
    held_out = [replace(row, target=wrong) for row in rows[120:]]
    copy = replace(made[0], messages=held_out[0].messages)
    kept = keep_made([*made, copy], rows[:120], held_out)
    alone = keep_made(made, rows[:120])
    assert kept.rows == alone.rows
    assert kept.left_out == {**alone.left_out, "a copy": 1}


def test_copies_are_filtered_out_and_free_text_is_not_judged() -> None:
    rows = questions(120)
    copy = MadeRow("paraphrase", "x", (Message("user", rows[5].text.upper() + "!"),), rows[5].target, "id5")
    new = replace(
        copy, messages=(Message("user", "card lost wallet number 7"),), target="card lost", of="id0"
    )
    kept = keep_made([copy, new, new], rows)
    assert (len(kept.rows), kept.left_out["a copy"]) == (1, 2)
    free = [replace(one, target=f"answer {number}") for number, one in enumerate(rows)]
    assert not keep_made([new], free).judged


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ("Please give me back the 30 euros of order A7", None),
        ("Please give me back the 40 euros of order A7", "other numbers"),
        ("Why do you want the 30 euros of order A7?", "a question no more, or only now"),
        ("Thank you for writing about the 30 and the A7", "hardly a word in common"),
        ("30 A7", "much shorter or longer"),
        ("30 euros A7 " + "and more of it " * 9, "much shorter or longer"),
    ],
)
def test_a_rewritten_text_keeps_numbers_and_length(after: str, why: str | None) -> None:
    assert keeps_meaning("I want the 30 euros back for order A7, please", after) == why


def test_what_is_made_of_a_row_follows_it_into_train_or_nowhere() -> None:
    rows = questions(300)
    split = split_rows(rows, SplitSpec(None, 60, 90, 1, None))
    made = [
        MadeRow("swap", one.source, (Message("user", f"{one.text} again"),), one.target, one.id)
        for one in rows
    ]
    result = add_made(split, made, rows)
    added = [one for one in result.train if how_made(one) == "swap"]
    assert len(added) == len(split.train)
    assert {one.group for one in added} == {one.group for one in split.train}
    assert (result.validation, result.test) == (split.validation, split.test)


@pytest.fixture
def bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNESMITH_RUNS", raising=False)
    records = [{"text": f"she asks: {one.text}", "label": one.target} for one in questions(300)]
    Path("bank.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main(["new", "bank", "--data", "bank.jsonl", "--input", "text", "--target", "label"]) == 0
    capsys.readouterr()
    return Path("bank/task.yaml")


def test_from_rules_to_a_frozen_version(bank: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("rules.yaml").write_text("paraphrases: [{find: '^she asks: ', write: 'a lady wrote to us that '}]")
    make = ["data", "augment", str(bank), "--out", "bank/made.jsonl", "--json"]
    assert main(make) == 2
    capsys.readouterr()
    assert main([*make, "--rules", "rules.yaml", "--swap", "gender"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["made"] == {"paraphrase": done["train_rows"], "swap": done["train_rows"]}
    assert 0.9 * done["train_rows"] < done["written"]["paraphrase"] <= done["train_rows"]
    assert len(read_made(Path("bank/made.jsonl"))) == sum(done["written"].values())
    bank.write_text(bank.read_text().replace("#train_extra: weak.jsonl", "train_extra: made.jsonl"))
    assert main(["data", "freeze", str(bank), "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)["manifest"]
    assert {one["how"]: one["rows"] for one in manifest["made"]} == done["written"]
    assert main(["data", "show", str(bank), "--split", "validation", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["rows"]
    assert not any(one["source"].startswith(("swap", "paraphrase")) for one in shown)


def test_the_base_rewrites_rows_and_what_it_spoils_is_counted(bank: Path, tmp_path: Path) -> None:
    base = make_tiny_base(tmp_path / "base")
    task = bank.read_text()
    named = next(line for line in task.splitlines() if line.startswith("base:"))
    bank.write_text(task.replace(named, f"base: {base}"))
    session = Session(load_task(bank), TaskFolder(tmp_path / "runs/bank"), Console(file=StringIO()), tmp_path)
    done = augment(session, tmp_path / "made.jsonl", by_model=6)
    # A model of random weights writes nothing that keeps the meaning.
    assert done.made == {"model": 6}
    assert sum(done.written.values()) + sum(done.left_out.values()) == 6
    assert any(why.startswith("by the model: ") for why in done.left_out)
