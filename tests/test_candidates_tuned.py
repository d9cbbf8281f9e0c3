"""The tuned candidate answers with its adapter, and its temperature changes probabilities alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tiny import load_tiny, make_tiny_base, toy_rows
from tunesmith.candidates.calibration import TEMPERATURES, fit_temperature
from tunesmith.candidates.tuned import (
    TunedModel,
    answer_tuned,
    label_probabilities,
    put_adapter,
    score_tuned,
    tuned_candidate,
)
from tunesmith.engine.adapters import read_adapter
from tunesmith.engine.lora import attach_lora, lora_disabled
from tunesmith.engine.scoring import LabelScores
from tunesmith.errors import UserError
from tunesmith.models.adapters import save_adapter
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import Tokens, instructed, render_row
from tunesmith.records import Candidate, Row
from tunesmith.task.train_settings import TrainSettings
from tunesmith.training.fit import fit

LABELS = ("billing", "bill", "delivery")
INSTRUCTION = "Name the team."
RANK, ALPHA = 4, 8.0


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("tuned") / "base")


def scored(loaded: LoadedModel, rows: list[Row]) -> LabelScores:
    return score_tuned(TunedModel(loaded, INSTRUCTION, LABELS), rows, 0.0)


def save_null_adapter(loaded: LoadedModel, folder: Path) -> Path:
    attach_lora(loaded.model, RANK, ALPHA, seed=5)
    save_adapter(folder, read_adapter(loaded.model), loaded.base.name, loaded.base.sha256)
    return folder


def test_an_adapter_whose_b_is_zero_answers_exactly_as_the_base(base: Path, tmp_path: Path) -> None:
    rows = toy_rows(12, LABELS, 0)
    null = save_null_adapter(load_tiny(base), tmp_path / "null")
    plain = scored(load_tiny(base), rows).log_probabilities
    loaded = load_tiny(base)
    put_adapter(loaded, null)
    np.testing.assert_array_equal(scored(loaded, rows).log_probabilities, plain)
    with lora_disabled(loaded.model):
        np.testing.assert_array_equal(scored(loaded, rows).log_probabilities, plain)


def test_training_makes_the_candidate_better_than_its_base(base: Path, tmp_path: Path) -> None:
    train, validation = toy_rows(160, LABELS, 0), toy_rows(40, LABELS, 1)
    loaded = load_tiny(base)
    before = scored(loaded, validation).log_probabilities
    chosen = TrainSettings(rank=RANK, alpha=ALPHA, learning_rate=1e-2, epochs=4)
    attach_lora(loaded.model, RANK, ALPHA, chosen.seed)

    def rendered(rows: list[Row]) -> list[Tokens]:
        return [render_row(loaded, instructed(INSTRUCTION, row), row.target) for row in rows]

    fitted = fit(loaded, rendered(train), rendered(validation), chosen, tmp_path)
    after = scored(loaded, validation).log_probabilities
    wanted = [LABELS.index(row.target) for row in validation]
    at = np.arange(len(validation))
    assert after[at, wanted].mean() > before[at, wanted].mean() + 3
    # What validation measured while training is what scoring measures now.
    lengths = np.array([sum(tokens.learn) for tokens in rendered(validation)])
    best = min(point.loss for point in fitted.validation)
    assert -after[at, wanted].sum() / lengths.sum() == pytest.approx(best, rel=1e-4)


def test_the_candidate_is_named_by_base_adapter_instruction_and_labels(base: Path) -> None:
    loaded = load_tiny(base)
    candidate = tuned_candidate(TunedModel(loaded, INSTRUCTION, LABELS), "sha", 1.0)
    others = [
        tuned_candidate(TunedModel(loaded, "Other.", LABELS), "sha", 1.0),
        tuned_candidate(TunedModel(loaded, INSTRUCTION, LABELS[:2]), "sha", 1.0),
        tuned_candidate(TunedModel(loaded, INSTRUCTION, LABELS), "another sha", 1.0),
    ]
    assert len({candidate.id, *(other.id for other in others)}) == 4
    assert tuned_candidate(TunedModel(loaded, INSTRUCTION, LABELS), "sha", 2.0).id == candidate.id
    assert candidate.kind == "tuned"


def test_prompts_longer_than_the_context_are_refused(base: Path) -> None:
    rows = toy_rows(2, LABELS, 0)
    long = TunedModel(load_tiny(base), "word " * 600, LABELS)
    with pytest.raises(UserError, match="2 of 2 rows do not fit base's context of 512 tokens"):
        score_tuned(long, rows, 0.0)


def log_loss(log_probabilities: NDArray[np.float64], rows: list[Row]) -> float:
    shifted = log_probabilities - log_probabilities.max(axis=1, keepdims=True)
    normalised = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -float(np.mean([normalised[at, LABELS.index(row.target)] for at, row in enumerate(rows)]))


def planted_scores(seed: int, sharpness: float, rows: list[Row]) -> NDArray[np.float64]:
    """Scores that often favour the right label, surer or less sure of it than they should be."""
    draw = np.random.default_rng(seed)
    scores = draw.normal(size=(len(rows), len(LABELS)))
    for at, row in enumerate(rows):
        scores[at, LABELS.index(row.target)] += 1.0
    return np.asarray(scores * sharpness)


@given(seed=st.integers(0, 10_000), sharpness=st.floats(0.05, 20), temperature=st.floats(*TEMPERATURES))
@settings(max_examples=40, deadline=None)
def test_the_fitted_temperature_has_the_lowest_log_loss_and_changes_no_label(
    seed: int, sharpness: float, temperature: float
) -> None:
    rows = toy_rows(60, LABELS, 0)
    scores = planted_scores(seed, sharpness, rows)
    fitted = fit_temperature(scores, LABELS, rows)
    assert TEMPERATURES[0] <= fitted <= TEMPERATURES[1]
    best = log_loss(scores / fitted, rows)
    assert best <= log_loss(scores, rows) + 1e-4
    assert best <= log_loss(scores / temperature, rows) + 1e-4
    candidate = tuned_candidate_with(fitted)
    plain = [LABELS[index] for index in scores.argmax(axis=1)]
    answers = answer_tuned(candidate, LABELS, LabelScores(scores, 1))
    assert answers.labels == plain
    probabilities = label_probabilities(candidate, LabelScores(scores, 1))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert answers.probabilities is not None
    np.testing.assert_allclose(probabilities.max(axis=1), answers.probabilities)


def tuned_candidate_with(temperature: float) -> Candidate:
    return Candidate("id", "tuned", "tuned", {"temperature": temperature})


def test_a_model_that_is_too_sure_is_cooled_and_one_too_unsure_is_sharpened() -> None:
    rows = toy_rows(300, LABELS, 0)
    scores = planted_scores(0, 1.0, rows)
    plain = fit_temperature(scores, LABELS, rows)
    assert fit_temperature(4 * scores, LABELS, rows) == pytest.approx(4 * plain, rel=1e-3)
    assert fit_temperature(scores / 2, LABELS, rows) == pytest.approx(plain / 2, rel=1e-3)


def test_rows_with_unknown_labels_play_no_part_in_the_temperature() -> None:
    rows, other = toy_rows(30, LABELS, 0), toy_rows(10, ("new",), 1)
    scores = planted_scores(0, 1.0, rows)
    with_others = np.concatenate([scores, np.full((10, len(LABELS)), -3.0)])
    assert fit_temperature(with_others, LABELS, [*rows, *other]) == fit_temperature(scores, LABELS, rows)
    assert fit_temperature(with_others[-10:], LABELS, other) == 1.0


def test_scores_are_computed_without_gradients(base: Path) -> None:
    loaded = load_tiny(base)
    attach_lora(loaded.model, RANK, ALPHA, seed=0)
    scored(loaded, toy_rows(2, LABELS, 0))
    assert all(parameter.grad is None for parameter in loaded.model.parameters())
    assert torch.is_grad_enabled()
