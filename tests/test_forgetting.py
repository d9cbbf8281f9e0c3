"""Claims about the forgetting measurement: what it sees, what it does not claim, and what it refuses."""

import math
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.errors import UserError
from tunesmith.evaluation.forgetting import (
    ALL_PROBES,
    ALL_TEXT,
    GeneralScores,
    LogProbs,
    ScoredText,
    guard_checks,
    log_probability_check,
    material_sha256,
    measure_forgetting,
    score_general,
    score_texts,
)
from tunesmith.evaluation.probes import probe_items
from tunesmith.evaluation.texts import (
    FEWEST_CHARACTERS,
    MOST_CHARACTERS,
    SAMPLE_TOKENS,
    GeneralText,
    general_texts,
    own_samples,
    sample_prompts,
    texts_sha256,
)
from tunesmith.files import read_record, write_json
from tunesmith.records import Check, Forgetting

ITEMS = probe_items()
RIGHT = {(item.prompt, item.options[item.right], item.chat) for item in ITEMS}


def echo(prompts: Sequence[str], tokens: int) -> list[str]:
    return [f" I was asked: {prompt} Here is what I think of it.\n" for prompt in prompts]


GENERAL = general_texts()
TEXTS = (*GENERAL, *own_samples(echo))


def chance_of(text: ScoredText) -> float:
    """A log-probability that depends on the text only: between 0.4 and 0.8 nats per byte."""
    noise = zlib.crc32(repr(text).encode()) / 2**32
    return -len(text.continuation.encode()) * (0.4 + 0.4 * noise)


def knows(text: ScoredText) -> bool:
    return (text.prompt, text.continuation, text.chat) in RIGHT


def oracle(asked: Sequence[ScoredText]) -> list[float]:
    return [-1.0 if knows(text) else -50.0 for text in asked]


def indifferent(asked: Sequence[ScoredText]) -> list[float]:
    return [-3.0 for _ in asked]


def able(asked: Sequence[ScoredText]) -> list[float]:
    """Right on about nine of ten probes."""
    return [0.03 * chance_of(text) + (-2.0 if knows(text) and hit(text, 90) else -2.5) for text in asked]


def hit(text: ScoredText, percent: int) -> bool:
    return zlib.crc32(text.prompt.encode()) % 100 < percent


def change_of(measured: Sequence[Forgetting], domain: str) -> Forgetting:
    return next(change for change in measured if change.domain == domain)


def check_of(checks: Sequence[Check], domain: str) -> Check:
    return next(check for check in checks if check.name == f"forgetting: {domain}")


def measured(base: LogProbs, tuned: LogProbs) -> tuple[Forgetting, ...]:
    return measure_forgetting(
        score_general(TEXTS, base), score_general(TEXTS, tuned), text_margin=0.03, probe_margin=0.02
    )


def guards(base: LogProbs, tuned: LogProbs) -> tuple[Check, ...]:
    return guard_checks(measured(base, tuned), text_blocking=True, probe_blocking=False)


def with_bits(scores: GeneralScores, factor: Callable[[GeneralText], float]) -> GeneralScores:
    bits = zip(scores.texts, scores.text_bits, strict=True)
    return replace(scores, text_bits=tuple(factor(text) * value for text, value in bits))


@pytest.fixture(scope="module")
def base_scores() -> GeneralScores:
    return score_general(TEXTS, able)


def test_general_text_is_there_offline_and_within_bounds() -> None:
    for text in GENERAL:
        whole = text.prompt + text.text
        assert text.prompt.strip() == text.prompt != ""
        assert text.text[:1].isspace()
        assert not text.text[-1:].isspace()
        assert FEWEST_CHARACTERS <= len(whole) <= MOST_CHARACTERS
    assert len({text.prompt + text.text for text in GENERAL}) == len(GENERAL)
    # About 4 bytes a token: the passages and the samples together stay near 15,000 tokens.
    assert sum(text.byte_count for text in GENERAL) < 45_000


def test_there_are_docstrings_of_sixty_modules_and_every_data_set_description() -> None:
    sources = {
        domain: {t.source for t in TEXTS if t.domain == domain} for domain in {t.domain for t in TEXTS}
    }
    assert len(sources["python-docs"]) >= 60
    files = {entry.name for entry in resources.files("sklearn.datasets.descr").iterdir()}
    assert sources["dataset-descriptions"] == {name for name in files if name.endswith(".rst")}
    assert len(sources["own-samples"]) == 64


def test_another_process_finds_the_same_texts() -> None:
    script = "from tunesmith.evaluation.texts import *; print(texts_sha256(general_texts()))"
    other = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == texts_sha256(GENERAL)


def test_own_samples_answer_the_fixed_prompts_and_empty_ones_are_left_out() -> None:
    asked: list[tuple[Sequence[str], int]] = []

    def sample(prompts: Sequence[str], tokens: int) -> list[str]:
        asked.append((prompts, tokens))
        return ["  ", "word " * 400, *echo(prompts[2:], tokens)]

    samples = own_samples(sample)
    assert asked == [(sample_prompts(), SAMPLE_TOKENS)]
    assert len(set(sample_prompts())) == len(sample_prompts()) >= 60
    assert [text.prompt for text in samples] == list(sample_prompts()[1:])
    assert all(text.chat and text.domain == "own-samples" for text in samples)
    assert FEWEST_CHARACTERS <= len(samples[0].text) <= MOST_CHARACTERS
    assert samples[1].text == echo(sample_prompts()[2:], 0)[0].strip()


def test_scores_are_bits_in_the_order_of_the_texts() -> None:
    def by_length(asked: Sequence[ScoredText]) -> list[float]:
        return [-math.log(2) * len(text.continuation) for text in asked]

    assert score_texts(TEXTS, by_length) == pytest.approx([len(text.text) for text in TEXTS])


def test_an_oracle_gets_every_probe_right_and_indifference_gets_chance() -> None:
    changes = [change for change in measured(oracle, indifferent) if change.kind == "probe"]
    assert [change.domain for change in changes[:-1]] == ["grammar", "facts", "arithmetic", "instructions"]
    for change in changes:
        items = [item for item in ITEMS if change.domain in (item.domain, ALL_PROBES)]
        chance = sum(1 / len(item.options) for item in items) / len(items)
        assert change.base.value == 1
        assert change.tuned.value == pytest.approx(chance, abs=0.005)
        assert change.change.value == pytest.approx(change.tuned.value - 1)
        assert change.items == len(items)
        assert not change.at_chance


def test_an_unchanged_model_changes_nothing_and_passes_every_measurable_guard() -> None:
    for change in measured(able, able):
        assert change.change.value == 0
        assert change.base == change.tuned
        assert change.change.low <= 0 <= change.change.high
    answers = {check.name: check.answer for check in guards(able, able)}
    assert answers["forgetting: all text"] == "passed"
    assert answers["forgetting: all probes"] == "passed"
    assert "failed" not in answers.values()


def test_ten_per_cent_more_bits_fail_a_margin_of_three(base_scores: GeneralScores) -> None:
    worse = with_bits(base_scores, lambda text: 1.1)
    checks = guard_checks(measure_forgetting(base_scores, worse, 0.03, 0.02), True, True)
    assert check_of(checks, ALL_TEXT).answer == "failed"
    assert check_of(checks, "python-docs").answer == "failed"
    assert check_of(checks, ALL_PROBES).answer == "passed"
    assert "+10.0" in check_of(checks, ALL_TEXT).evidence


def test_a_noisy_loss_around_the_margin_is_unmeasured_not_passed(base_scores: GeneralScores) -> None:
    worse = with_bits(base_scores, lambda text: 1.0 + 0.06 * hit(ScoredText(text.source, "", False), 50))
    for margin, answer in ((0.015, "failed"), (0.025, "unmeasured"), (0.035, "passed")):
        change = change_of(measure_forgetting(base_scores, worse, margin, 0.02), ALL_TEXT)
        assert [check.answer for check in guard_checks((change,), True, True)] == [answer]


@settings(max_examples=5, deadline=None)
@given(factor=st.floats(0.5, 2))
def test_the_change_is_the_relative_rise_of_bits(factor: float) -> None:
    base = score_general(TEXTS, indifferent)
    worse = with_bits(base, lambda text: factor)
    for change in measure_forgetting(base, worse, 0.03, 0.02):
        if change.kind == "text":
            assert change.change.value == pytest.approx(factor - 1, abs=1e-9)
            assert change.tuned.value == pytest.approx(factor * change.base.value)


def test_a_twentieth_of_the_answers_lost_fails_a_margin_of_two_points() -> None:
    def forgetful(asked: Sequence[ScoredText]) -> list[float]:
        lost = (knows(text) and hit(text, 20) for text in asked)
        return [value - 3 * gone for value, gone in zip(able(asked), lost, strict=True)]

    checks = guards(able, forgetful)
    assert check_of(checks, ALL_PROBES).answer == "failed"
    assert check_of(checks, ALL_TEXT).answer == "passed"


def test_lost_certainty_shows_before_an_answer_flips() -> None:
    def less_certain(asked: Sequence[ScoredText]) -> list[float]:
        return [-1.0 if knows(text) else -2.0 for text in asked]

    change = change_of(measured(oracle, less_certain), ALL_PROBES)
    assert change.change.value == 0
    assert change.log_probability_change is not None
    assert change.log_probability_change.high < 0


def test_lost_certainty_is_judged_by_its_own_margin_and_never_passes_unmeasured() -> None:
    def less_certain(asked: Sequence[ScoredText]) -> list[float]:
        return [value - 0.2 * knows(text) for text, value in zip(asked, able(asked), strict=True)]

    def answer(base: LogProbs, tuned: LogProbs, margin: float) -> str:
        return log_probability_check(measured(base, tuned), margin, True).answer

    assert answer(able, less_certain, 0.05) == "failed"
    assert answer(able, less_certain, 0.5) == answer(able, able, 0.05) == "passed"
    assert answer(indifferent, indifferent, 0.05) == "unmeasured"
    assert log_probability_check((), 0.05, True).answer == "unmeasured"


def test_changes_are_written_with_real_minus_signs_and_no_signed_zero() -> None:
    base = score_general(TEXTS, able)
    worse = with_bits(base, lambda text: 1 - 1e-6)
    for check in guard_checks(measure_forgetting(base, worse, 0.03, 0.02), False, False):
        assert "-" not in check.evidence
        assert not re.search(r"[−+]0\.0(?!\d)", check.evidence)
    lost = change_of(measure_forgetting(base, with_bits(base, lambda text: 0.9), 0.03, 0.02), ALL_TEXT)
    assert ", −10.0 [−10.0, −10.0] %" in guard_checks((lost,), False, False)[0].evidence


def test_a_style_that_lowers_all_options_alike_is_not_lost_knowledge() -> None:
    def wordy(asked: Sequence[ScoredText]) -> list[float]:
        return [value - 5 for value in able(asked)]

    change = change_of(measured(able, wordy), ALL_PROBES)
    assert change.log_probability_change is not None
    assert change.log_probability_change.value == pytest.approx(0, abs=1e-9)


def test_a_domain_that_the_base_only_guesses_is_unmeasured_and_left_out_of_the_whole() -> None:
    digits_unknown = {item.prompt for item in ITEMS if item.domain == "arithmetic"}

    def no_numbers(asked: Sequence[ScoredText]) -> list[float]:
        values = zip(asked, able(asked), strict=True)
        return [-3.0 if text.prompt in digits_unknown else value for text, value in values]

    changes = measured(no_numbers, no_numbers)
    assert change_of(changes, "arithmetic").at_chance
    assert not change_of(changes, "facts").at_chance
    assert change_of(changes, ALL_PROBES).items == len(ITEMS) - len(digits_unknown)
    assert check_of(guard_checks(changes, True, True), "arithmetic").answer == "unmeasured"


def test_a_base_that_only_guesses_leaves_the_probes_unmeasured() -> None:
    checks = guards(indifferent, indifferent)
    assert check_of(checks, ALL_PROBES).answer == "unmeasured"
    assert check_of(checks, ALL_TEXT).answer == "passed"


def test_fourteen_documents_alone_are_too_few_to_pass() -> None:
    assert check_of(guards(able, able), "dataset-descriptions").answer == "unmeasured"


def test_only_the_two_whole_guards_can_block() -> None:
    changes = measured(able, able)
    assert {c.name for c in guard_checks(changes, True, True) if c.blocking} == {
        "forgetting: all text",
        "forgetting: all probes",
    }
    assert {c.name for c in guard_checks(changes, True, False) if c.blocking} == {"forgetting: all text"}
    assert len(guard_checks(changes, False, False)) == len(changes)
    assert not any(check.blocking for check in guard_checks(changes, False, False))


def test_a_diverged_model_is_an_error_and_not_a_number() -> None:
    def diverged(asked: Sequence[ScoredText]) -> list[float]:
        return [math.nan for _ in asked]

    with pytest.raises(UserError) as caught:
        score_general(TEXTS, diverged)
    assert caught.value.exit_code == 3


def test_scores_on_different_texts_or_probes_are_never_compared(base_scores: GeneralScores) -> None:
    fewer = replace(base_scores, texts=TEXTS[1:], text_bits=base_scores.text_bits[1:])
    with pytest.raises(ValueError, match="different texts"):
        measure_forgetting(base_scores, fewer, 0.03, 0.02)
    other = replace(base_scores, probes=replace(base_scores.probes, probes_sha256="0" * 64))
    with pytest.raises(ValueError, match="probes"):
        measure_forgetting(base_scores, other, 0.03, 0.02)


def test_cached_scores_are_the_scores(base_scores: GeneralScores, tmp_path: Path) -> None:
    path = tmp_path / "general.json"
    write_json(path, base_scores)
    assert read_record(path, GeneralScores) == base_scores
    assert len(material_sha256()) == 64


def test_every_option_is_scored_after_its_own_prompt() -> None:
    asked: list[ScoredText] = []

    def listening(texts: Sequence[ScoredText]) -> list[float]:
        asked.extend(texts)
        return indifferent(texts)

    score_general((), listening)
    expected: list[ScoredText] = []
    for item in ITEMS:
        expected.extend(ScoredText(item.prompt, option, item.chat) for option in item.options)
    assert asked == expected
