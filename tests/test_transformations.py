"""Transformations help classical models with messy text; language models are refused them, and told why."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from bank_samples import questions
from tunesmith.candidates.classical import answer_classical, fit_classical, tune_classical
from tunesmith.candidates.transformations import (
    UNCHANGED,
    Transformations,
    correct,
    for_classical,
    training_dictionary,
    transformed,
)
from tunesmith.errors import UserError
from tunesmith.records import Message, Row
from tunesmith.task import load_task

KNOWN = {"refund": 40, "transfer": 30, "account": 25, "card": 20, "cart": 3}


@pytest.mark.parametrize(
    ("word", "mended"),
    [
        ("refnd", "refund"),
        ("Refuund", "Refund"),
        ("tranfser", "transfer"),
        ("refund", "refund"),
        ("cord", "card"),
        ("caar", "caar"),  # nothing known within one edit
        ("car", "car"),  # too short to tell
        ("cart", "cart"),  # known, if rarely
        ("zebra", "zebra"),
    ],
)
def test_a_word_is_mended_only_by_a_known_word_one_letter_away(word: str, mended: str) -> None:
    assert correct(word, KNOWN) == mended


def test_stop_words_go_and_everything_else_stays_in_its_place() -> None:
    rules = Transformations(stop_words=frozenset(["the", "is"]), dictionary=KNOWN)
    assert transformed(["The refnd is late: 30 €!"], rules) == [" refund  late: 30 €!"]
    assert transformed(["The refnd"], UNCHANGED) == ["The refnd"]


def misspelt(row: Row, chance: random.Random) -> Row:
    """One letter of every longer word is another one."""
    words = row.text.split()
    for place, word in enumerate(words):
        if len(word) >= 4 and word.isalpha():
            at = chance.randrange(len(word))
            words[place] = word[:at] + chance.choice("qxzjk") + word[at + 1 :]
    return replace(row, messages=(Message("user", " ".join(words)),))


def test_spelling_by_training_rows_mends_planted_mistakes() -> None:
    chance = random.Random(0)
    train = questions(300)
    test = [misspelt(row, chance) for row in questions(120, seed=1)]
    spelling = Transformations(dictionary=training_dictionary([row.text for row in train]))
    right = {}
    for name, text in (("as written", UNCHANGED), ("mended", spelling)):
        model, _ = tune_classical(train[:200], train[200:], text=text)
        answers = answer_classical(fit_classical(model.candidate, train, text), test).labels
        right[name] = sum(answer == row.target for answer, row in zip(answers, test, strict=True))
    assert right["mended"] >= 0.95 * len(test)
    assert right["mended"] > right["as written"] + 10


def test_case_is_kept_where_it_matters() -> None:
    chance = random.Random(2)
    upper = [chance.random() < 0.5 for _ in range(120)]
    rows = [
        replace(row, messages=(Message("user", f"{'US' if big else 'us'} {row.text}"),), target=str(big))
        for row, big in zip(questions(120), upper, strict=True)
    ]
    accuracy = []
    for lower_case in (True, False):
        text = Transformations(lower_case)
        _, table = tune_classical(rows[:80], rows[80:], text=text)
        accuracy.append(max(value for _, value in table))
    assert accuracy[1] == 1.0 > accuracy[0] + 0.2


def test_what_is_done_to_texts_is_part_of_the_candidate(tmp_path: Path) -> None:
    rows = questions(60)
    (tmp_path / "words.txt").write_text("card\nthe\n")
    texts = [row.text for row in rows]
    given = [
        UNCHANGED,
        for_classical(texts, True, "english", None, tmp_path),
        for_classical(texts, True, "words.txt", None, tmp_path),
        for_classical(texts, True, None, "train", tmp_path),
        for_classical(texts, True, None, "words.txt", tmp_path),
        for_classical(texts, False, None, None, tmp_path),
    ]
    plain, _ = tune_classical(rows[:40], rows[40:])
    ids = {fit_classical(plain.candidate, rows, text).candidate.id for text in given}
    assert len(ids) == len(given)
    assert "transformations" not in plain.candidate.settings
    with pytest.raises(UserError, match="cannot be read"):
        for_classical(texts, True, "missing.txt", None, tmp_path)


def test_language_models_are_refused_them_and_told_why(tmp_path: Path) -> None:
    task = tmp_path / "task.yaml"
    text = (
        "name: t\nkind: classify\ninstruction: Say it.\ndata: {path: a.jsonl, input: a, target: b}\n"
        "split: {validation: 0.2, test: 0.3}\ngoal: {gain: 0.02}\nbase: x\n"
    )
    task.write_text(text + "opponents: {classical_stop_words: english, classical_spelling: train}\n")
    assert load_task(task).opponents.classical_spelling == "train"
    for section in ("train: {stop_words: english}\n", "train: {spelling: train}\n"):
        task.write_text(text + section)
        with pytest.raises(
            UserError, match="a language model is never given changed text: it was trained on"
        ):
            load_task(task)
