"""Bases that think step by step before they answer: which do, what is read of it, and the vote on samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from test_candidates_forms import row, task_with
from tiny import load_tiny, make_tiny_base, toy_rows
from tunesmith.candidates import reasoned
from tunesmith.candidates.answers import Answers
from tunesmith.candidates.forms import PromptForm, form_of
from tunesmith.candidates.reasoned import Reasoning, answer_by_reasoning, reasoned_candidate
from tunesmith.candidates.replies import Asking
from tunesmith.data.questions import each_row
from tunesmith.data.windowed import Cutting
from tunesmith.engine.generation import Decoding, Generated
from tunesmith.errors import UserError
from tunesmith.evaluation.judging import judged
from tunesmith.models.loading import LoadedModel
from tunesmith.models.size import STRONG_PARAMETERS
from tunesmith.progress import silent
from tunesmith.records import Candidate, Cost, Scorecard
from tunesmith.stages import reasoning as stage
from tunesmith.stages.answerers import prompt_answerer
from tunesmith.stages.answering import judging_of
from tunesmith.stages.bases import prompt_cards
from tunesmith.stages.reasoning import reasoned_cards, reasoned_seconds, reasons
from tunesmith.stages.session import Session
from tunesmith.workspace import Workspace

LABELS = ("billing", "delivery", "refund")
ONE_LABEL = Asking(LABELS, False, None)
ON = "{zero_shot: true, few_shot: [], reasoning: {chain_of_thought: true, max_tokens: 16}}"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_tiny(make_tiny_base(tmp_path_factory.mktemp("reasoning") / "base"))


class Saying:
    """Stands for generation: says one text after the other, and remembers what it was asked."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        self.lengths: list[int] = []
        self.asked: list[tuple[list[str], Decoding]] = []

    def __call__(
        self, model: Any, prompts: Sequence[Sequence[int]], decoding: Decoding, text_of: Any, advance: Any
    ) -> list[Generated]:
        self.lengths = [len(prompt) for prompt in prompts]
        self.asked.append(([text_of(prompt) for prompt in prompts], decoding))
        return [Generated((), (0.0,), "end", self.texts.pop(0)) for _ in prompts]


@pytest.fixture
def saying(monkeypatch: pytest.MonkeyPatch) -> Any:
    def say(*texts: str) -> Saying:
        said = Saying(texts)
        monkeypatch.setattr(reasoned, "generate", said)
        return said

    return say


# --- asking, reading, voting ---


def test_the_base_is_asked_to_think_and_what_follows_the_last_answer_counts(
    tiny: LoadedModel, saying: Any
) -> None:
    said = saying("Is the answer: refund? No, late.\n**Answer:** Delivery.", "I would say billing")
    answers = answer_by_reasoning(Reasoning(tiny, "Sort.", ONE_LABEL, 40), toy_rows(2, LABELS, 0))
    # What is no label stays as it is, and is wrong.
    assert answers.labels == ["delivery", "I would say billing"]
    assert answers.tokens > 2
    ((prompts, decoding),) = said.asked
    assert "Think step by step first" in prompts[0]
    assert "billing, delivery, refund" in prompts[0]
    assert (decoding.temperature, decoding.max_new_tokens) == (0.0, 40)


def test_of_several_samples_the_commonest_label_counts(tiny: LoadedModel, saying: Any) -> None:
    texts = ["Answer: refund", "Answer: billing", "Answer: ?", "Answer: ?", "Answer: billing"]
    said = saying(*texts, *["Answer: refund"] * 2, *["Answer: ?"] * 3)
    reasoning = Reasoning(tiny, "Sort.", ONE_LABEL, 40, samples=5, temperature=0.5)
    rows = toy_rows(2, LABELS, 0)
    assert answer_by_reasoning(reasoning, rows).labels == ["billing", "refund"]
    ((prompts, decoding),) = said.asked
    assert decoding.temperature == 0.5
    assert prompts[:5] == [prompts[0]] * 5
    assert rows[1].text in prompts[5]


def test_several_labels_and_json_are_read_out_of_the_answer(tiny: LoadedModel, saying: Any) -> None:
    saying('It is both.\nAnswer: ["refund", "billing"]')
    several = Reasoning(tiny, "Sort.", Asking(LABELS, True, None), 40)
    assert answer_by_reasoning(several, toy_rows(1, LABELS, 0)).labels == ['["billing", "refund"]']
    saying('A name.\nAnswer:\n```json\n{"name": "Ann"}\n```')
    fields = Reasoning(tiny, "Read.", Asking((), False, {"type": "object"}), 40)
    assert answer_by_reasoning(fields, toy_rows(1, LABELS, 0)).labels == ['{"name": "Ann"}']


def test_rows_with_less_room_think_shorter_and_those_with_none_are_not_asked(
    tiny: LoadedModel, saying: Any
) -> None:
    words = [40, 60, 400]
    rows = [row(n, " ".join(["about"] * count)) for n, count in enumerate(words)]
    probe = saying("Answer: refund")
    answer_by_reasoning(Reasoning(tiny, "Sort.", ONE_LABEL, 16), rows[:1])
    room = tiny.context_tokens - probe.lengths[0]
    said = saying("Answer: refund", "Answer: billing")
    answers = answer_by_reasoning(Reasoning(tiny, "Sort.", ONE_LABEL, room), rows)
    assert answers.labels == ["refund", "billing", ""]
    first, second = (decoding.max_new_tokens for _, decoding in said.asked)
    assert first == room
    assert 16 <= second < first


def test_windows_of_a_long_row_think_each_and_most_of_them_decide(tiny: LoadedModel, saying: Any) -> None:
    saying("Answer: refund", "Answer: billing", "Answer: billing")
    long = row(1, " ".join(f"word{n}" for n in range(30)))
    reasoning = Reasoning(tiny, "Sort.", ONE_LABEL, 16, cutting=Cutting(12, 3))
    assert answer_by_reasoning(reasoning, [long]).labels == ["billing"]


def test_real_samples_differ_by_seed_alone_and_the_candidate_says_so(tiny: LoadedModel) -> None:
    rows = toy_rows(3, LABELS, 0)
    asking = Asking((), False, None)

    def answers(seed: int) -> Answers:
        return answer_by_reasoning(Reasoning(tiny, "Say.", asking, 16, 3, 1.0, seed), rows)

    assert answers(0).labels == answers(0).labels
    assert answers(0).labels != answers(1).labels
    plain = reasoned_candidate(Reasoning(tiny, "Say.", asking, 16))
    sampled = [reasoned_candidate(Reasoning(tiny, "Say.", asking, 16, 3, 1.0, seed)) for seed in (0, 1)]
    assert len({plain.id, *(one.id for one in sampled)}) == 3
    assert plain.name == "zero-shot, step by step"
    assert sampled[0].name == "zero-shot, step by step, best of 3 by vote"
    assert form_of(sampled[0].settings) == PromptForm(reasoning=True)


# --- which bases do ---


@pytest.mark.parametrize(
    ("kind", "opponents", "small", "large"),
    [
        ("classify", "{}", False, True),
        ("answer", "{}", False, True),
        ("summarise", "{}", False, False),
        ("classify", "{zero_shot: false, few_shot: []}", False, False),
        ("classify", "{reasoning: {chain_of_thought: true}}", True, True),
        ("classify", "{reasoning: {chain_of_thought: false}}", False, False),
    ],
)
def test_bases_of_a_billion_parameters_think_by_default_and_others_where_the_task_asks(
    tiny: LoadedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    opponents: str,
    small: bool,
    large: bool,
) -> None:
    task = task_with(tmp_path, opponents, kind)
    assert reasons(task, tiny.base) is small
    monkeypatch.setattr(stage, "count_parameters", lambda folder: STRONG_PARAMETERS)
    assert reasons(task, tiny.base) is large
    monkeypatch.setattr(stage, "count_parameters", lambda folder: STRONG_PARAMETERS - 1)
    assert reasons(task, tiny.base) is small


@pytest.mark.parametrize(
    ("kind", "reasoning", "told"),
    [
        ("summarise", "{chain_of_thought: true}", "only for kind: classify, tag, extract, answer"),
        ("answer", "{samples: 3}", "there is no vote on them"),
        ("classify", "{temperature: 0}", "opponents.reasoning.temperature"),
        ("classify", "{max_tokens: 8}", "opponents.reasoning.max_tokens"),
    ],
)
def test_thinking_that_cannot_be_right_is_refused(
    tmp_path: Path, kind: str, reasoning: str, told: str
) -> None:
    with pytest.raises(UserError, match=told):
        task_with(tmp_path, f"{{reasoning: {reasoning}}}", kind)
    off = "{zero_shot: false, few_shot: [], reasoning: {chain_of_thought: true}}"
    with pytest.raises(UserError, match="no base is prompted"):
        task_with(tmp_path, off)


# --- in a run ---


def session_of(folder: Path, opponents: str) -> Session:
    task = task_with(folder, opponents)
    return Session(task, Workspace(folder / "runs").task("x"), Console(quiet=True), folder / "cache")


def test_it_is_one_more_prompt_and_as_a_finalist_answers_the_same_again(
    tiny: LoadedModel, tmp_path: Path
) -> None:
    session = session_of(tmp_path, ON)
    train, rows = toy_rows(12, LABELS, 0), toy_rows(10, LABELS, 1)
    judging = judging_of(session.task, LABELS)
    cards = prompt_cards(session, tiny, judging, train, each_row(rows))
    assert [card.candidate.name.partition(" (")[0] for card in cards] == [
        "zero-shot",
        "zero-shot, step by step",
    ]
    assert len(cards[1].predictions) == 10
    assert cards[1].cost.tokens > 10 * 16
    again = prompt_answerer(session, tiny, judging, train, cards[1].candidate)
    assert again(rows, silent).labels == [prediction.answer for prediction in cards[1].predictions]
    assert reasoned_seconds(session, tiny, judging, rows) > 0
    off = session_of(tmp_path, ON.replace("true, max", "false, max"))
    assert len(prompt_cards(off, tiny, judging, train, each_row(rows))) == 1


def test_where_it_is_clearly_behind_the_best_prompt_it_is_asked_no_further(
    tiny: LoadedModel, tmp_path: Path, saying: Any
) -> None:
    session = session_of(tmp_path, ON)
    rows = toy_rows(140, LABELS, 1)
    judging = judging_of(session.task, LABELS)

    def card(answers: list[str]) -> Scorecard:
        candidate = Candidate("rival", "prompt", "rival", {"examples": 0}, tiny.base.name)
        given = Answers(answers, None, 0)
        return judged(judging, candidate, "validation", each_row(rows), given, Cost(1.0, 140, 0, 1.0))

    saying(*["Answer: nothing"] * 140)
    (behind,) = reasoned_cards(session, tiny, judging, each_row(rows), [card([one.target for one in rows])])
    assert behind.stopped_after_rows == 100
    said = saying(*["Answer: refund"] * 140)
    (whole,) = reasoned_cards(session, tiny, judging, each_row(rows), [card(["?"] * 140)])
    assert whole.stopped_after_rows is None
    assert [len(prompts) for prompts, _ in said.asked] == [100, 40]
