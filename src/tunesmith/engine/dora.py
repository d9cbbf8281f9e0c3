"""DoRA: weight-decomposed low-rank adaptation (Liu et al. 2024, arXiv 2402.09353), as PEFT defines it.

The adapted weight is m · (W + s·B·A) / ‖W + s·B·A‖, row by row. The norm counts as a constant in the
backward pass (the paper's section 4.3).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def row_norms(weight: Tensor, a: Tensor, b: Tensor, scaling: float) -> Tensor:
    """‖W + s·B·A‖ of each row, [out] in fp32, without forming that matrix.

    ``weight`` is [out, in], ``a`` [rank, in] and ``b`` [out, rank]:
    ‖w + s·b·A‖² = ‖w‖² + 2s·(w·Aᵀ)·b + s²·b·(A·Aᵀ)·b.
    """
    own = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float32).square()
    crossed = ((weight @ a.T.to(weight.dtype)).float() * b).sum(1)
    low = ((b @ (a @ a.T)) * b).sum(1)
    norms: Tensor = (own + 2 * scaling * crossed + scaling**2 * low).clamp_min(0).sqrt()
    return norms


def dora_output(
    inputs: Tensor,
    dropped: Tensor,
    base_output: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    low: Tensor,
    scale: Tensor,
) -> Tensor:
    """The adapted layer's output [..., out].

    ``base_output`` is the base layer's, with its bias; ``low`` is s·(x·Aᵀ)·Bᵀ of the ``dropped`` inputs,
    which are the ``inputs`` themselves while no dropout is active; ``scale`` [out] is m / ‖W + s·B·A‖, fp32.
    """
    if dropped is not inputs:
        directions = F.linear(dropped, weight)
    else:
        directions = base_output if bias is None else base_output - bias
    dtype = base_output.dtype
    return base_output + (scale - 1).to(dtype) * directions + scale.to(dtype) * low
