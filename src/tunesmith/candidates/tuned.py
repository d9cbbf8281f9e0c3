"""The fine-tuned candidate: the base with its adapter, prompted with the instruction alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from tunesmith.candidates.answers import Answers, answers_from_scores, task_tree
from tunesmith.candidates.forms import PromptForm, form_name
from tunesmith.candidates.retrieval import Library
from tunesmith.candidates.tuned_prompts import tuned_prompts
from tunesmith.engine.adapters import attach_adapter
from tunesmith.engine.added_tokens import grow
from tunesmith.engine.classifier_head import with_head
from tunesmith.engine.lora import lora_layers
from tunesmith.engine.pruning import plain_pruning
from tunesmith.engine.scoring import LabelScores, score_labels
from tunesmith.files import content_hash
from tunesmith.models.adapters import METHOD_TITLES, load_adapter, read_trained_on
from tunesmith.models.loading import LoadedModel, load_base
from tunesmith.models.quantised import quantise
from tunesmith.models.rendering import check_lengths
from tunesmith.progress import Report, silent
from tunesmith.records import Candidate, Row, Settings

# Where calibrated probabilities are wanted, what labels left out of scoring may hold in all, relative to
# the best one.
CALIBRATION_MASS = 0.01

# Outside, it is a few rows that decide, not the data.
TEMPERATURES = (0.2, 10.0)


@dataclass(frozen=True)
class TunedModel:
    """A base with its adapter in memory, the labels it chooses from, and the instruction it was given.

    It is shown up to ``passages`` of ``library`` for each row.
    """

    loaded: LoadedModel
    instruction: str
    labels: tuple[str, ...]
    passages: int = 0
    library: Library | None = None


def put_adapter(loaded: LoadedModel, folder: Path) -> LoadedModel:
    """The model that answers with what was trained into ``folder``, an adapter or a whole model.

    An adapter is attached to ``loaded`` itself, where :func:`tunesmith.engine.lora.lora_disabled` switches it
    off. What does not leave the base as it is (4 bits, added tokens, full fine-tuning) is loaded beside it.
    Raises UserError where the folder cannot be read, or does not fit the base or other adapters.
    """
    trained_on = read_trained_on(folder, loaded.base.sha256)
    dtype = next(loaded.model.parameters()).dtype
    attention = loaded.model.config._attn_implementation
    if trained_on.method == "full":
        tuned = load_base(replace(loaded.base, folder=str(folder)), dtype, attention)
        return replace(tuned, base=loaded.base)
    adapter = load_adapter(folder, loaded.base.sha256)
    if adapter.method == "qlora" or adapter.added_tokens:
        loaded = grow(load_base(loaded.base, dtype, attention), adapter.added_tokens)
    if adapter.method == "qlora":
        quantise(loaded.model)
    if adapter.labels and not lora_layers(loaded.model):
        loaded = with_head(loaded, adapter.labels, seed=0)
    loaded = replace(loaded, labels=adapter.labels)
    attach_adapter(loaded.model, adapter, str(folder))
    return loaded


def score_tuned(
    tuned: TunedModel, rows: Sequence[Row], mass: float | None, report: Report = silent
) -> LabelScores:
    """Exact log-probabilities [rows, labels] after the same prompt as in training.

    With ``mass`` None no more is scored than the best label needs. Else the labels left out (−inf) hold in
    all no more than that share of the best one's probability; 0 leaves out none.
    """
    loaded = tuned.loaded
    tree = task_tree(loaded, tuned.labels)
    longest = max(tree.lengths)
    prompts = tuned_prompts(loaded, tuned.instruction, rows, longest, tuned.passages, tuned.library)
    lengths = [len(prompt) + longest for prompt in prompts]
    check_lengths(loaded, rows, lengths, "prompt")
    rules = [plain_pruning(len(tuned.labels), mass)]
    return score_labels(loaded.model, prompts, tree, loaded.pad_token, rules, report)


def tuned_candidate(
    tuned: TunedModel, adapter_sha256: str, temperature: float, method: str = "lora"
) -> Candidate:
    """The candidate named by what decides its answers: base, adapter, instruction and labels."""
    base = tuned.loaded.base
    identity = content_hash(["tuned", base.sha256, adapter_sha256, tuned.instruction, list(tuned.labels)])
    settings: Settings = {
        "instruction": tuned.instruction,
        "temperature": temperature,
        "adapter_sha256": adapter_sha256,
    }
    name = f"{base.name} + {METHOD_TITLES[method]}"
    if tuned.passages and tuned.library is not None:
        settings["passages"] = tuned.passages
        identity = content_hash([identity, tuned.passages, tuned.library.sha256])
        name += f" + {form_name(PromptForm(passages=tuned.passages))}"
    return Candidate(identity, "tuned", name, settings, base.name)


def answer_tuned(candidate: Candidate, labels: tuple[str, ...], scores: LabelScores) -> Answers:
    """Labels with temperature-calibrated probabilities; the temperature never changes the label."""
    temperature = float(str(candidate.settings["temperature"]))
    return answers_from_scores(scores.log_probabilities / temperature, labels, scores.tokens)


def label_probabilities(candidate: Candidate, scores: LabelScores) -> NDArray[np.float64]:
    """Temperature-calibrated probabilities [rows, labels]."""
    scaled = scores.log_probabilities / float(str(candidate.settings["temperature"]))
    shares = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    normalised: NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True)
    return normalised


def fit_temperature(
    log_probabilities: NDArray[np.float64], labels: tuple[str, ...], rows: Sequence[Row]
) -> float:
    """The temperature with the lowest log-loss on ``rows`` (validation); 1 where no row has a known label.

    Temperature scaling: Guo et al. 2017, arXiv 1706.04599. ``log_probabilities`` is [rows, labels]; those
    left out of scoring (−inf) count as sharing ``CALIBRATION_MASS`` evenly.
    """
    known = {label: index for index, label in enumerate(labels)}
    chosen = [(index, known[row.target]) for index, row in enumerate(rows) if row.target in known]
    if not chosen:
        return 1.0
    at, wanted = (np.array(values) for values in zip(*chosen, strict=True))
    scores = log_probabilities[at]
    least = scores.max(axis=1, keepdims=True) + np.log(CALIBRATION_MASS / len(labels))
    scores = np.where(np.isneginf(scores), least, scores)

    def log_loss(log_temperature: float) -> float:
        scaled = scores / np.exp(log_temperature)
        highest = scaled.max(axis=1)
        normaliser = highest + np.log(np.exp(scaled - highest[:, None]).sum(axis=1))
        return float((normaliser - scaled[np.arange(len(at)), wanted]).mean())

    bounds = (np.log(TEMPERATURES[0]), np.log(TEMPERATURES[1]))
    return float(np.exp(minimize_scalar(log_loss, bounds=bounds, method="bounded").x))
