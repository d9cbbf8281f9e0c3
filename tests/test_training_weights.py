"""A row with a weak label counts as much as its label is probable: exactly, in every model that learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tiny import load_tiny, make_tiny_base, toy_rows
from tunesmith.candidates.classical import fit_classical, vectorised
from tunesmith.data.made import WEIGHT, row_weight
from tunesmith.engine.forward import plain_summed_loss, summed_loss
from tunesmith.engine.lora import attach_lora, trainable_parameters
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import Tokens
from tunesmith.records import Candidate, Row, Settings
from tunesmith.task.train_settings import TrainSettings
from tunesmith.training.batches import mean_weight, sharing_of
from tunesmith.training.fit import Fit, fit
from tunesmith.training.long_rows import training_rows
from tunesmith.training.validation import per_example

LABELS = ("billing", "delivery", "refund of what was paid twice", "greeting")
# Plain gradient steps that nothing cuts, so that what a step does is its gradient.
SETTINGS = TrainSettings(
    rank=2, alpha=4.0, optimiser="sgd", momentum=0.0, learning_rate=0.1, warmup_share=0.0, epochs=1.0,
    batch_size=64, validations_per_epoch=1, max_gradient_norm=1e9,
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("weights") / "base")


def adapted(base: Path) -> LoadedModel:
    loaded = load_tiny(base)
    attach_lora(loaded.model, SETTINGS.rank, SETTINGS.alpha, 0)
    with torch.no_grad():
        for parameter in trainable_parameters(loaded.model):
            parameter.normal_(0, 0.05, generator=torch.Generator().manual_seed(parameter.numel()))
    return loaded


def weak(row: Row, weight: float) -> Row:
    return replace(row, source=f"weak label: {row.source}", fields=((WEIGHT, f"{weight:.4f}"),))


def rendered(loaded: LoadedModel, rows: Sequence[Row]) -> list[Tokens]:
    return training_rows(loaded, "Name the team.", rows, SETTINGS).tokens


def test_the_weight_of_a_row_is_that_of_a_made_row_alone() -> None:
    row = toy_rows(1, LABELS, 0)[0]
    assert row_weight(weak(row, 0.7)) == 0.7
    assert row_weight(replace(row, fields=((WEIGHT, "0.7"),))) == 1  # a column of the user's own
    assert row_weight(replace(row, source=f"swap: {row.source}")) == 1


@pytest.mark.parametrize("per", ["token", "example"])
@pytest.mark.parametrize("loss_of", [summed_loss, plain_summed_loss])
def test_a_weight_scales_the_gradient_of_its_row(base: Path, loss_of: object, per: str) -> None:
    assert callable(loss_of)
    loaded = adapted(base)
    weights = [0.3, 1.0, 0.8]
    rows = toy_rows(3, LABELS, 0)
    tokens = rendered(loaded, [weak(row, weight) for row, weight in zip(rows, weights, strict=True)])
    assert [row.weight for row in tokens] == weights
    sharing = sharing_of(tokens)
    assert sharing.batch([replace(row, weight=1.0) for row in tokens], [0, 1, 2], 0).weights is None

    def gradient(rows: Sequence[Tokens]) -> Tensor:
        batch = sharing.batch(rows, range(len(rows)), loaded.pad_token)
        if per == "example":
            batch = replace(batch, weights=per_example(batch))
        parameters = trainable_parameters(loaded.model)
        found = torch.autograd.grad(loss_of(loaded.model, batch), parameters)
        return torch.cat([one.flatten() for one in found])

    apart = [gradient([replace(row, weight=1.0)]) for row in tokens]
    expected = torch.stack([weight * one for weight, one in zip(weights, apart, strict=True)]).sum(0)
    torch.testing.assert_close(gradient(tokens), expected, rtol=1e-4, atol=1e-6)


def trained(base: Path, folder: Path, rows: Sequence[Row], settings: TrainSettings) -> tuple[Fit, Tensor]:
    loaded = adapted(base)
    validation = rendered(loaded, toy_rows(4, LABELS, 9))
    done = fit(loaded, rendered(loaded, rows), validation, settings, folder)
    return done, torch.cat([one.detach().flatten() for one in trainable_parameters(loaded.model)])


@pytest.mark.parametrize("per", ["token", "example"])
def test_two_rows_of_weight_one_half_are_one_row(base: Path, tmp_path: Path, per: str) -> None:
    settings = SETTINGS.model_copy(update={"loss_per": per})
    rows = toy_rows(8, LABELS, 0)
    halves = [half for row in rows[:4] for half in (weak(row, 0.5), weak(row, 0.5))]
    once, reached = trained(base, tmp_path / "once", rows, settings)
    twice, same = trained(base, tmp_path / "twice", [*halves, *rows[4:]], settings)
    other, apart = trained(base, tmp_path / "other", [*halves[::2], *rows[4:]], settings)
    torch.testing.assert_close(same, reached, rtol=0, atol=1e-6)
    assert twice.train[0].loss == pytest.approx(once.train[0].loss, rel=1e-5)
    assert float((apart - reached).abs().max()) > 1e-5
    assert other.validation[0].train_loss != once.validation[0].train_loss


def test_weights_count_between_steps_too(base: Path, tmp_path: Path) -> None:
    # One row a step, and steps too small to change anything: the norms are those of the rows' gradients.
    settings = SETTINGS.model_copy(update={"batch_size": 1, "learning_rate": 1e-9})
    rows, weights = toy_rows(4, LABELS, 0), [0.5, 1.0, 0.75, 0.9]
    own, _ = trained(base, tmp_path / "own", rows, settings)
    weighed = [weak(row, weight) for row, weight in zip(rows, weights, strict=True)]
    made, _ = trained(base, tmp_path / "made", weighed, settings)
    mean = mean_weight(rendered(adapted(base), weighed), "token")
    shares = [
        ours.gradient_norm / theirs.gradient_norm for ours, theirs in zip(made.train, own.train, strict=True)
    ]
    assert sorted(shares) == pytest.approx(sorted(weight / mean for weight in weights), rel=1e-4)


@pytest.mark.parametrize("classifier", ["linear SVM", "logistic regression"])
def test_classical_models_heed_weights(classifier: str) -> None:
    rows = toy_rows(60, LABELS, 0)
    settings: Settings = {"features": "words", "classifier": classifier, "C": 1.0}
    candidate = Candidate("", "classical", "", settings)
    plain = fit_classical(candidate, rows)
    light = fit_classical(candidate, [*(weak(row, 0.2) for row in rows[:30]), *rows[30:]])

    def decisions(train: Sequence[Row]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        model = fit_classical(candidate, train)
        return np.asarray(model.classifier.decision_function(vectorised(model.vectorizers, rows)))

    halves = [half for row in rows for half in (weak(row, 0.5), weak(row, 0.5))]
    # Not to the last digit: which words are rare is counted in rows.
    assert decisions(halves) == pytest.approx(decisions(rows), abs=2e-2)
    assert np.abs(decisions([weak(row, 0.5) for row in rows]) - decisions(rows)).max() > 5e-2
    assert light.candidate.id != plain.candidate.id
