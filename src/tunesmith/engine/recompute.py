"""Layers that keep only their input and are computed again in the backward pass: less memory, a third slower.

Chen et al. 2016, arXiv 1604.06174. The second computation is the first one again, so gradients are the same
to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer


@contextmanager
def recomputing(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
    """Within the block, where ``wanted``, every decoder layer keeps its input only.

    Transformers' layers do it themselves; engine/decoder.py reads their flag. Adapter dropout is drawn
    the same both times.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not wanted or not layers:
        yield
        return
    before = [layer.training for layer in layers]
    for layer in layers:
        layer.gradient_checkpointing = True
        layer.__dict__["_gradient_checkpointing_func"] = partial(checkpoint, use_reentrant=False)
        # Only of the layer itself: Transformers asks for it, and what acts while training is inside.
        layer.training = True
    try:
        yield
    finally:
        for layer, training in zip(layers, before, strict=True):
            layer.gradient_checkpointing, layer.training = False, training


def recomputes(layer: object) -> bool:
    """Whether a decoder layer is to be computed again."""
    return bool(getattr(layer, "gradient_checkpointing", False))
