"""How much memory a run will take, from the base's config and headers alone: nothing is loaded.

Every term is the size of tensors that the engine really holds, so the arithmetic reads like the code it is
about: weights, what is trained (fp32 masters, gradients, moments, the best copy), what each layer keeps for
the backward pass, and one chunk of the output head. benchmarks/memory.py compares it with measurements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers import AutoConfig

from tunesmith.engine.attention import LARGEST_SCORE_MATRIX
from tunesmith.engine.decoder import family_of
from tunesmith.engine.head import POSITIONS_PER_CHUNK
from tunesmith.engine.packing import SCORES_PER_BLOCK
from tunesmith.engine.precision import KERNELS_KEPT
from tunesmith.engine.scoring import TOKENS_PER_BATCH
from tunesmith.errors import UserError
from tunesmith.task.train_settings import TrainSettings

MIB = 2**20
# Bytes of the optimiser's memory for each trained weight.
MOMENT_BYTES = {"adamw": 8, "sgd": 4, "adamw8bit": 2}
NF4_BYTES = 0.5 + 1 / 64 + 4 / 64 / 256  # a weight, its block's 8-bit scale, the scale of 256 scales
KERNEL_BYTES = 600_000  # one compiled matrix product of oneDNN
# What allocators lose to gaps between tensors of ever new sizes, in our own decoder and in a model's own
# layers, which free many small blocks between those that are kept for the backward pass.
GAPS = 0.05
GAPS_OF_LAYERS = 0.25
# What the configurations of families that scale or cap their head's logits call that.
LOGIT_SCALES = ("logits_scaling", "logit_scale", "final_logit_softcapping")


@dataclass(frozen=True)
class BaseShape:
    """A base as its config.json and the headers of its weight files describe it.

    ``matrices`` are its linear layers, [out, in] or [in, out], by name, the output head left out;
    ``others`` counts all further weights (embeddings, norms, biases, an untied head). ``stored_bytes`` is
    the size of a weight in the files. ``hand_written``: engine/decoder.py knows its layers.
    ``scales_logits``: what the head gives is scaled or capped (Granite, Cohere, Gemma 2).
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    matrices: dict[str, tuple[int, int]]
    modules: dict[str, int]
    stored_bytes: int
    hand_written: bool
    scales_logits: bool = False

    @property
    def linear(self) -> int:
        """The weights of all linear layers but the head."""
        return sum(rows * columns for rows, columns in self.matrices.values())

    @property
    def weights(self) -> int:
        """All weights."""
        return self.linear + sum(self.modules.values())


@dataclass(frozen=True)
class MicroBatch:
    """Rows put through the model at once: packed ``tokens`` (a shared prefix once), one head's ``scores``."""

    tokens: int
    scores: int
    learned: int


@dataclass(frozen=True)
class Work:
    """What a run puts through the model: its largest micro-batches, the two rows ``checked`` before the first
    step, the tokens of the largest batch ``validated``, and whether labels are scored.
    """

    micro_batches: tuple[MicroBatch, ...]
    checked: MicroBatch
    validated: int
    scores_labels: bool = True


@dataclass(frozen=True)
class MemoryPlan:
    """The peak (bytes, above the process after its imports) and what it is made of.

    ``weights`` and what is ``trained`` stay; ``step`` is one micro-batch's forward and backward, ``check``
    the comparison with the model's own forward before the first, ``reading`` a batch that is validated or
    scored: never two of them at once. ``kernels`` are compiled matrix products. ``gaps`` is the share of
    memory that is lost between the tensors of that work; what is trained lies in a few large blocks.
    """

    weights: int
    trained: int
    step: int
    check: int
    reading: int
    kernels: int
    gaps: float = GAPS

    @property
    def peak(self) -> int:
        """What is held and the largest of the three kinds of work, with the gaps between tensors."""
        work = max(self.step, self.check, self.reading)
        return round(self.weights + self.kernels + self.trained + work * (1 + self.gaps))


def read_shape(folder: Path) -> BaseShape:
    """Read config.json and the headers of the safetensors files in ``folder``.

    Raises UserError where the base has no attention (Mamba, RWKV), as answers of it cannot be scored.
    """
    config: Any = AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config()
    heads = getattr(config, "num_attention_heads", None)
    if heads is None:
        raise UserError(
            f"base: a {config.model_type} model has no attention, so its answers cannot be scored here",
            fix="choose a base with ordinary causal attention, such as smollm2-135m-instruct",
        )
    matrices: dict[str, tuple[int, int]] = {}
    modules: dict[str, int] = {}
    stored = 2
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # no mapping, only something with keys()
                header = tensors.get_slice(name)
                shape = header.get_shape()
                stored = 4 if header.get_dtype() == "F32" else 2
                layer = name.removesuffix(".weight").removesuffix(".bias")
                if name.endswith(".weight") and len(shape) == 2 and config.vocab_size not in shape:
                    matrices[layer] = (shape[0], shape[1])
                else:
                    modules[layer] = modules.get(layer, 0) + math.prod(shape)
    return BaseShape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=getattr(config, "intermediate_size", None)
        or getattr(config, "n_inner", None)
        or 4 * config.hidden_size,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        vocabulary=config.vocab_size,
        matrices=matrices,
        modules=modules,
        stored_bytes=stored,
        hand_written=family_of(config),
        scales_logits=any(getattr(config, name, None) not in (None, 1.0) for name in LOGIT_SCALES),
    )


def micro_batch(lengths: Sequence[int], learned: Sequence[int], shared: int) -> MicroBatch:
    """Rows of ``lengths`` tokens, the first ``shared`` of which are the same in all and stand once."""
    longest = max(lengths)
    kept = longest * (longest - shared) <= LARGEST_SCORE_MATRIX
    own = len(lengths) * (longest - shared) * longest if kept else 0
    return MicroBatch(
        tokens=sum(lengths) - shared * (len(lengths) - 1), scores=own + shared * shared, learned=sum(learned)
    )


def trained_weights_of(shape: BaseShape, settings: TrainSettings) -> int:
    """How many weights the settings train."""
    if settings.method == "full":
        return shape.weights
    whole = [
        count
        for name, count in (
            *shape.modules.items(),
            *((name, rows * columns) for name, (rows, columns) in shape.matrices.items()),
        )
        if settings.modules_to_save and _meant(name, settings.modules_to_save)
    ]
    added = len(settings.add_tokens or ()) * shape.hidden * (2 if "lm_head" in shape.modules else 1)
    magnitudes = [rows for name, (rows, _) in shape.matrices.items() if _meant(name, settings.targets)]
    return (
        low_rank_weights_of(shape, settings)
        + sum(whole)
        + added
        + (sum(magnitudes) if settings.method == "dora" else 0)
    )


def low_rank_weights_of(shape: BaseShape, settings: TrainSettings) -> int:
    """How many of them are in the A and B matrices of an adapter."""
    if settings.method == "full":
        return 0
    return settings.rank * sum(
        rows + columns for name, (rows, columns) in shape.matrices.items() if _meant(name, settings.targets)
    )


def takes_plain_path(shape: BaseShape, settings: TrainSettings) -> bool:
    """Whether training reads every row whole and holds its logits, see engine/selfcheck.py."""
    return shape.scales_logits or bool(settings.adapter_dropout)


def plan_memory(
    shape: BaseShape,
    settings: TrainSettings,
    bytes_per_value: int,
    work: Work,
    device: str = "cpu",
    recompute: bool = False,
) -> MemoryPlan:
    """The memory of training by ``settings``, and of the ``work`` beside it.

    ``bytes_per_value`` is 2 in bf16, 4 in fp32. With ``recompute`` layers keep their input only and are
    computed again in the backward pass (Chen et al. 2016, arXiv 1604.06174).
    """
    width = bytes_per_value
    trained = trained_weights_of(shape, settings)
    plain = takes_plain_path(shape, settings)
    decoded = shape.hand_written and settings.method in ("lora", "rslora") and not plain
    masters = 0 if settings.method == "full" and width == 4 else 4
    # Penalties remember where every other weight started.
    penalised = bool(settings.l1_penalty or settings.l2_penalty)
    starts = 4 * (trained - low_rank_weights_of(shape, settings)) if penalised else 0
    steps = [_step(shape, settings, width, batch, decoded, recompute) for batch in work.micro_batches]
    if plain:  # logits of every position, and their gradient
        steps = [
            step + 2 * width * batch.tokens * shape.vocabulary
            for step, batch in zip(steps, work.micro_batches, strict=True)
        ]
    # The comparison with the model's own forward: its layers, and the logits of every position.
    check = _step(shape, settings, width, work.checked, False, recompute)
    check += 2 * width * work.checked.tokens * shape.vocabulary
    reading = reading_bytes(shape, width, work.validated, 0)
    if work.scores_labels:
        reading = max(reading, reading_bytes(shape, width, TOKENS_PER_BATCH, POSITIONS_PER_CHUNK))
    return MemoryPlan(
        weights=_weight_bytes(shape, settings, width, trained, decoded, device),
        # Master, gradient, moments, and the best copy so far.
        trained=trained * (masters + 4 + MOMENT_BYTES[settings.optimiser] + 4) + starts,
        step=max(steps),
        check=check,
        reading=reading,
        kernels=KERNELS_KEPT * KERNEL_BYTES if device == "cpu" and width == 2 else 0,
        gaps=GAPS if decoded else GAPS_OF_LAYERS,
    )


def reading_bytes(shape: BaseShape, bytes_per_value: int, tokens: int, scored: int) -> int:
    """Reading ``tokens`` without gradients; with ``scored`` positions at once, their keys are kept too."""
    width = bytes_per_value
    keys_and_values = 2 * shape.kv_heads * shape.head_dim
    layer = tokens * width * (4 * shape.hidden + 3 * keys_and_values + 3 * shape.intermediate)
    cached = tokens * width * keys_and_values * shape.layers if scored else 0
    scores = 2 * min(SCORES_PER_BLOCK, tokens * tokens) * shape.heads * width
    return layer + cached + scores + _head(shape, width, scored)


def after_probe(plan: MemoryPlan, probed: int) -> int:
    """The peak, once a step on the largest micro-batch has held ``probed`` bytes above the imports.

    What the probe has shown is taken as it is: its gaps are there already. The optimiser's memory, summed
    gradients and the best copy come on top, and, as later batches have other shapes, the products compiled
    for them and the gaps they leave; what is done before or between steps is as planned.
    """
    later = plan.trained * 4 // 5 + plan.kernels + round(probed * GAPS)
    elsewhere = plan.weights + plan.kernels // 2 + (plan.trained // 3 + max(plan.check, plan.reading))
    return max(probed + later, elsewhere)


def _weight_bytes(
    shape: BaseShape, settings: TrainSettings, width: int, trained: int, decoded: bool, device: str
) -> int:
    whole = shape.weights * width
    if settings.method == "qlora":
        packed = round(shape.linear * NF4_BYTES)
        unpacked = max((rows * columns for rows, columns in shape.matrices.values()), default=0) * width
        # On a CPU the file stays mapped, and what was read of it counts.
        return packed + unpacked + (whole if device == "cpu" else whole - shape.linear * width)
    if decoded:
        # Products are stacked in copies, the adapters inside; on a CPU the mapped file stays beside them.
        whole += trained * width + (shape.linear * width if device == "cpu" else 0)
        if device == "cpu" and shape.stored_bytes != width:
            whole += shape.weights * shape.stored_bytes
    return whole


def _step(
    shape: BaseShape,
    settings: TrainSettings,
    width: int,
    batch: MicroBatch,
    decoded: bool,
    recompute: bool,
) -> int:
    """One micro-batch: what all layers keep, what the last one works with, and the head."""
    heads, keys_and_values = shape.heads * shape.head_dim, 2 * shape.kv_heads * shape.head_dim
    layer = width * shape.heads * batch.scores
    if decoded:
        values = 5 * shape.hidden + 2 * heads + keys_and_values + 2 * shape.intermediate + 8 * settings.rank
        layer += batch.tokens * width * values
    else:
        # RMSNorm in Transformers keeps its input in fp32, too.
        layer += batch.tokens * 2 * shape.hidden * (4 + width if width == 2 else 8)
        layer += batch.tokens * width * (2 * heads + keys_and_values + 4 * shape.intermediate)
        if settings.method != "full":
            layer += batch.tokens * width * 7 * settings.rank
        if settings.method == "dora":
            # Each product's output before its scale, and the adapter's part of it.
            layer += batch.tokens * width * 2 * (2 * heads + keys_and_values + 2 * shape.intermediate)
    kept = layer * shape.layers
    if recompute:
        kept = batch.tokens * width * shape.hidden * shape.layers + layer
    trained_head = (
        settings.method == "full"
        or bool(settings.add_tokens)
        or any("head" in name for name in settings.modules_to_save or ())
    )
    of_head = 0
    if trained_head:  # its gradient is summed over chunks in fp32, of a single chunk taken as it is
        of_head = shape.vocabulary * shape.hidden * (width if batch.learned <= POSITIONS_PER_CHUNK else 4)
    return kept + max(2 * layer, _head(shape, width, min(POSITIONS_PER_CHUNK, batch.learned))) + of_head


def _head(shape: BaseShape, width: int, positions: int) -> int:
    """One chunk of positions: logits, their fp32 log-probabilities, and the gradient."""
    return positions * shape.vocabulary * (2 * width + 8)


def _meant(name: str, endings: Sequence[str] | None) -> bool:
    return endings is None or any(name == ending or name.endswith(f".{ending}") for ending in endings)
