"""The fine-tuned candidate: the base with its adapter, prompted with the instruction alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from tunesmith.candidates.answers import Answers, answers_from_scores, task_tree
from tunesmith.candidates.forms import PromptForm, form_name
from tunesmith.candidates.retrieval import Library
from tunesmith.candidates.scope import best_in_scope, threshold_of, with_none
from tunesmith.candidates.tuned_prompts import tuned_prompts
from tunesmith.data.windowed import Cutting, cut_settings, in_windows, mean_scores
from tunesmith.engine.adapters import attach_adapter, read_adapter
from tunesmith.engine.added_tokens import grow
from tunesmith.engine.classifier_head import with_head
from tunesmith.engine.devices import device_of
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


@dataclass(frozen=True)
class TunedModel:
    """A base with its adapter in memory, the labels it chooses from, and the instruction it was given.

    It is shown up to ``passages`` of ``library`` for each row. With ``cutting`` long rows are read in
    windows.
    """

    loaded: LoadedModel
    instruction: str
    labels: tuple[str, ...]
    passages: int = 0
    library: Library | None = None
    cutting: Cutting | None = None


def put_adapter(loaded: LoadedModel, folder: Path) -> LoadedModel:
    """The model that answers with what was trained into ``folder``, an adapter or a whole model.

    An adapter is attached to ``loaded`` itself, where :func:`tunesmith.engine.lora.lora_disabled` switches it
    off. What does not leave the base as it is (4 bits, added tokens, full fine-tuning) is loaded beside it.
    Raises UserError where the folder cannot be read, or does not fit the base or other adapters.
    """
    trained_on = read_trained_on(folder, loaded.base.sha256)
    dtype, device = next(loaded.model.parameters()).dtype, device_of(loaded.model)
    attention = loaded.model.config._attn_implementation
    if trained_on.method == "full":
        tuned = load_base(replace(loaded.base, folder=str(folder)), dtype, attention)
        nn.Module.to(tuned.model, device)
        return replace(tuned, base=loaded.base)
    adapter = load_adapter(folder, loaded.base.sha256)
    if adapter.method == "qlora" or adapter.added_tokens:
        beside = load_base(loaded.base, dtype, attention)
        nn.Module.to(beside.model, device)
        loaded = grow(beside, adapter.added_tokens)
    if adapter.method == "qlora":
        quantise(loaded.model)
    if lora_layers(loaded.model) and read_adapter(loaded.model).labels != adapter.labels:
        loaded = load_base(loaded.base, dtype, attention)  # another fold's classes are in its head
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
    all no more than that share of the best one's probability; 0 leaves out none. Scores of a row that is read
    in windows are the means over them, and none is left out.
    """
    loaded = tuned.loaded
    parts = in_windows(rows, tuned.cutting)
    rows, mass = parts.rows, 0.0 if parts.cut else mass
    tree = task_tree(loaded, tuned.labels)
    longest = max(tree.lengths)
    prompts = tuned_prompts(loaded, tuned.instruction, rows, longest, tuned.passages, tuned.library)
    lengths = [len(prompt) + longest for prompt in prompts]
    check_lengths(loaded, rows, lengths, "prompt")
    rules = [plain_pruning(len(tuned.labels), mass)]
    scores = score_labels(loaded.model, prompts, tree, loaded.pad_token, rules, report)
    return LabelScores(mean_scores(parts, scores.log_probabilities), scores.tokens)


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
    if tuned.cutting is not None:
        settings |= cut_settings(tuned.cutting)
        identity = content_hash([identity, cut_settings(tuned.cutting)])
    name = f"{base.name} + {METHOD_TITLES[method]}"
    if tuned.passages and tuned.library is not None:
        settings["passages"] = tuned.passages
        identity = content_hash([identity, tuned.passages, tuned.library.sha256])
        name += f" + {form_name(PromptForm(passages=tuned.passages))}"
    return Candidate(identity, "tuned", name, settings, base.name)


def answer_tuned(candidate: Candidate, labels: tuple[str, ...], scores: LabelScores) -> Answers:
    """Labels with temperature-calibrated probabilities; the temperature never changes the label.

    A candidate with a threshold answers "none of these" below it.
    """
    temperature = float(str(candidate.settings["temperature"]))
    if threshold_of(candidate) is not None:
        none_label = str(candidate.settings["none_label"])
        best = best_in_scope(scores.log_probabilities / temperature, labels, none_label)
        return with_none(candidate, best, scores.tokens)
    return answers_from_scores(scores.log_probabilities / temperature, labels, scores.tokens)


def label_probabilities(candidate: Candidate, scores: LabelScores) -> NDArray[np.float64]:
    """Temperature-calibrated probabilities [rows, labels]."""
    scaled = scores.log_probabilities / float(str(candidate.settings["temperature"]))
    shares = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    normalised: NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True)
    return normalised
