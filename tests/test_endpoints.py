"""Endpoints as candidates: nothing paid for is lost, nothing is spent beyond the cap, no key is written."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_server import KEY, KEY_ENV, Sent, Served, serving
from tunesmith.candidates.answer_store import AnswerStore, Paid
from tunesmith.candidates.endpoints import (
    EndpointPrompting,
    answers_by_endpoint,
    endpoint_candidate,
)
from tunesmith.candidates.forms import PromptForm
from tunesmith.candidates.replies import read_label
from tunesmith.errors import UserError
from tunesmith.models import endpoint as client
from tunesmith.records import Message, Row
from tunesmith.task import load_task

LABELS = ("yes", "no", "don't know")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)
    monkeypatch.setattr(client, "FIRST_WAIT_SECONDS", 0.001)


def rows(count: int) -> list[Row]:
    return [
        Row(f"r{n}", f"f.jsonl:{n}", (Message("user", f"text {n}"),), "yes", f"g{n}") for n in range(count)
    ]


def prompting(served: Served, labels: tuple[str, ...] = LABELS, **settings: Any) -> EndpointPrompting:
    return EndpointPrompting(served.endpoint(**settings), "Answer.", labels, None, rows(5))


def own_text(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


# --- many requests ---


def test_an_endpoint_that_fails_half_way_loses_no_answer_and_resumes(tmp_path: Path) -> None:
    down = True

    def reply(body: dict[str, Any], number: int) -> Sent:
        return Sent(400, raw=b"too odd") if down and own_text(body) == "text 6" else Sent()

    path = tmp_path / "a.jsonl"
    with serving(reply) as served:
        asked = prompting(served, requests_at_once=2)
        with pytest.raises(UserError, match=r"local: f\.jsonl:6: HTTP 400 \(too odd\)") as told:
            answers_by_endpoint(asked, PromptForm(), rows(12), AnswerStore(path))
        assert told.value.exit_code == 3
        kept = AnswerStore(path)
        came = len(served.requests) - 1
        assert 6 <= len(kept.answers) == came < 12
        assert f"{came} of 12 answers" in told.value.what
        down = False
        answers = answers_by_endpoint(asked, PromptForm(), rows(12), AnswerStore(path))
    assert answers.labels == ["yes"] * 12
    assert len(served.requests) == 13  # the one that failed twice, every other once
    assert answers.spend == 12 * 12.0
    assert AnswerStore(path).spent == 12 * 12.0


def test_answers_are_kept_in_order_and_asked_for_once_whatever_the_speed(tmp_path: Path) -> None:
    def reply(body: dict[str, Any], number: int) -> Sent:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return Sent(text=own_text(body))

    with serving(reply) as served:
        asked = prompting(served, labels=(), requests_at_once=4)
        twice = [*rows(9), *rows(9)]
        answers = answers_by_endpoint(asked, PromptForm(), twice, AnswerStore(tmp_path / "a.jsonl"))
    assert answers.labels == [row.text for row in twice]
    assert len(served.requests) == 9
    assert answers.tokens == 9 * 12


def test_no_more_requests_are_under_way_than_allowed(tmp_path: Path) -> None:
    under_way, most = 0, 0

    def reply(body: dict[str, Any], number: int) -> Sent:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        time.sleep(0.01)
        under_way -= 1
        return Sent()

    with serving(reply) as served:
        asked = prompting(served, requests_at_once=3)
        answers_by_endpoint(asked, PromptForm(), rows(12), AnswerStore(tmp_path / "a.jsonl"))
    assert 1 < most <= 3


def test_what_is_sent_cannot_cost_more_than_the_cap(tmp_path: Path) -> None:
    with serving(lambda body, number: Sent(usage=(50, 8))) as served:
        asked = prompting(served, max_tokens=8, spend_cap=400.0, requests_at_once=3)
        path = tmp_path / "a.jsonl"
        with pytest.raises(UserError, match="spend cap of 400 is reached"):
            answers_by_endpoint(asked, PromptForm(), rows(12), AnswerStore(path))
        spent = AnswerStore(path).spent
        assert 3 * 58 <= spent <= 400
        assert spent == 58 * len(served.requests)
        before = len(served.requests)
        # What the other file of the same endpoint holds counts too.
        other = AnswerStore(tmp_path / "b.jsonl", [path])
        with pytest.raises(UserError, match="spend cap"):
            answers_by_endpoint(asked, PromptForm(1), rows(40), other)
        assert 58 * (len(served.requests) - before) + spent <= 400


def test_a_key_that_is_not_set_is_told_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = AnswerStore(tmp_path / "a.jsonl")
    with serving(lambda body, number: Sent()) as served:
        answers_by_endpoint(prompting(served), PromptForm(), rows(3), store)
        monkeypatch.delenv(KEY_ENV)
        with pytest.raises(UserError, match=f"{KEY_ENV} is not set"):
            answers_by_endpoint(prompting(served), PromptForm(), rows(4), store)
        # Answers that are there need no key.
        assert answers_by_endpoint(prompting(served), PromptForm(), rows(3), store).labels == ["yes"] * 3
        assert len(served.requests) == 3


def test_the_key_is_in_no_file_no_candidate_and_no_message(tmp_path: Path) -> None:
    with serving(lambda body, number: Sent() if number < 3 else Sent(403, raw=KEY.encode())) as served:
        asked = prompting(served, requests_at_once=1)
        with pytest.raises(UserError) as told:
            answers_by_endpoint(asked, PromptForm(), rows(5), AnswerStore(tmp_path / "a.jsonl"))
    candidate = endpoint_candidate(asked, PromptForm())
    written = [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()]
    assert not any(KEY in text for text in [*written, repr(candidate), str(told.value)])


def test_half_a_line_left_by_a_killed_process_costs_one_answer_and_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    store = AnswerStore(path)
    for number in range(3):
        store.add(Paid(f"q{number}", "yes", 1, 1, 1.0, 0.1))
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    store = AnswerStore(path)
    assert set(store.answers) == {"q0", "q1"}
    store.add(Paid("q9", "no", 1, 1, 1.0, 0.1))
    assert set(AnswerStore(path).answers) == {"q0", "q1", "q9"}
    path.write_bytes(whole.replace(b'"spend"', b'"spent"'))
    with pytest.raises(UserError, match=r"a\.jsonl:1: not an answer"):
        AnswerStore(path)


# --- what is asked, and how answers are read ---


def test_prompts_list_the_labels_and_show_training_rows(tmp_path: Path) -> None:
    with serving(lambda body, number: Sent()) as served:
        store = AnswerStore(tmp_path / "a.jsonl")
        answers_by_endpoint(prompting(served), PromptForm(2), rows(9)[8:], store)
    messages = served.requests[0][2]["messages"]
    assert messages[0] == {
        "role": "system",
        "content": "Answer.\nAnswer with exactly one of: yes, no, don't know\nAnswer like the examples.",
    }
    assert [message["role"] for message in messages[1:]] == ["user", "assistant"] * 2 + ["user"]
    assert messages[-1]["content"] == "text 8"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (" yes\n", "yes"),
        ("**Yes.**", "yes"),
        ("“Don't  KNOW”", "don't know"),
        ("The answer is yes", None),
        ("yes, no", None),
        ("", None),
    ],
)
def test_a_label_is_read_exactly_or_normalised_and_never_guessed(text: str, label: str | None) -> None:
    assert read_label(text, LABELS) == label


@given(st.lists(st.text("aA .é'", min_size=1, max_size=4), min_size=1, max_size=5, unique=True), st.data())
def test_every_label_is_read_from_itself_and_labels_that_look_alike_are_not_mixed_up(
    labels: list[str], data: st.DataObject
) -> None:
    labels = [label.strip() for label in labels]
    label = data.draw(st.sampled_from(labels))
    assert read_label(f" {label}\n", labels) == label
    assert read_label("yes", ["YES", "Yes"]) is None


def test_after_thinking_step_by_step_only_the_last_line_is_the_answer(tmp_path: Path) -> None:
    thought = "No account is named.\nA first answer: yes.\n**Answer:** No."
    with serving(lambda body, number: Sent(text=thought)) as served:
        store = AnswerStore(tmp_path / "a.jsonl")
        answers = answers_by_endpoint(prompting(served), PromptForm(reasoning=True), rows(1), store)
    assert answers.labels == ["no"]
    assert "step by step" in served.requests[0][2]["messages"][0]["content"]


def test_of_several_samples_the_commonest_label_counts_and_every_one_is_paid_for(tmp_path: Path) -> None:
    drawn = ["I say no", "yes", "no", "I say no", "Yes!", "I say no"]
    with serving(lambda body, number: Sent(text=drawn[number])) as served:
        asked = prompting(served, samples=5, temperature=0.7, requests_at_once=1)
        store = AnswerStore(tmp_path / "a.jsonl")
        answers = answers_by_endpoint(asked, PromptForm(), rows(1), store)
        assert answers.labels == ["yes"]
        assert answers.spend == 5 * 12.0
        assert (
            endpoint_candidate(asked, PromptForm()).id
            != endpoint_candidate(prompting(served, temperature=0.7), PromptForm()).id
        )
        # One of them is the answer of a single draw.
        one = prompting(served, temperature=0.7)
        assert answers_by_endpoint(one, PromptForm(), rows(1), store).labels == ["I say no"]
    assert len(served.requests) == 5


def test_json_is_taken_out_of_a_fence(tmp_path: Path) -> None:
    wanted = json.dumps({"a": "1"})
    with serving(lambda body, number: Sent(text=f"Here:\n```json\n{wanted}\n```")) as served:
        asked = EndpointPrompting(served.endpoint(), "Answer.", (), {"type": "object"}, rows(3))
        answers = answers_by_endpoint(asked, PromptForm(), rows(1), AnswerStore(tmp_path / "a.jsonl"))
    assert answers.labels == [wanted]
    assert "JSON of this schema" in served.requests[0][2]["messages"][0]["content"]


def test_candidates_are_named_by_what_decides_their_answers() -> None:
    served = Served("http://127.0.0.1:1/v1", [])
    one = endpoint_candidate(prompting(served), PromptForm())
    assert one.name == "local, zero-shot"
    assert one.base == "m"
    cheap = prompting(served, spend_cap=1.0, key_env=None, price_in=0.0, timeout_seconds=1.0)
    assert endpoint_candidate(cheap, PromptForm()).id == one.id
    for other in (
        prompting(served, model="n"),
        prompting(served, temperature=None),
        prompting(served, ("a",)),
    ):
        assert endpoint_candidate(other, PromptForm()).id != one.id
    assert endpoint_candidate(prompting(served), PromptForm(1)).id != one.id


# --- task files ---


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("url: ftp://x, price_in: 0, price_out: 0", "is no URL"),
        ("url: 'https://me:k@x', price_in: 0, price_out: 0", "a key has no place in a URL"),
        ("url: 'http://far.example/v1', key_env: K, price_in: 0, price_out: 0", "unencrypted to far.example"),
        ("url: 'https://x/v1', price_in: 0.1, price_out: 0", "needs a spend_cap"),
        ("url: 'https://x/v1', price_out: 0", "price_in: missing"),
        ("url: 'https://x/v1', price_in: 0, price_out: 0, samples: 3", "set temperature"),
        ("url: 'https://x/v1', price_in: 0, price_out: 0, key: sk-1", "unknown key"),
    ],
)
def test_settings_of_an_endpoint_that_cannot_be_right_are_refused(
    tmp_path: Path, endpoint: str, told: str
) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(
        "name: x\nkind: classify\ninstruction: Do it.\ndata: {path: a.jsonl, input: i, target: t}\nbase: b\n"
        f"split: {{validation: 50, test: 60}}\ngoal: {{gain: 0.1}}\n"
        f"opponents:\n  endpoints:\n    - {{name: e, model: m, {endpoint}}}\n",
        encoding="utf-8",
    )
    with pytest.raises(UserError, match=told):
        load_task(path)


def test_a_judge_is_shown_no_examples_so_few_shot_is_refused_there(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(
        "name: x\nkind: classify\ninstruction: Do it.\ndata: {path: a.jsonl, input: i, target: t}\nbase: b\n"
        "split: {validation: 50, test: 60}\ngoal: {gain: 0.1}\n"
        "review:\n  judge:\n"
        "    endpoint: {name: e, model: m, url: 'https://x/v1', price_in: 0, price_out: 0, few_shot: [0]}\n",
        encoding="utf-8",
    )
    with pytest.raises(UserError, match=r"few_shot: a judge is shown no examples: leave it out"):
        load_task(path)
