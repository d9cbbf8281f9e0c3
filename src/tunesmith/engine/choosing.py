"""The next token of every row: the likeliest, or drawn by temperature, top-k and top-p."""

from __future__ import annotations

import torch
from torch import Tensor

# Logits that are held in fp32 at once: rows of them stay in the processor's cache.
ROWS_PER_CHUNK = 16


def choose(
    logits: Tensor,
    temperature: float,
    top_k: int | None,
    top_p: float,
    draws: Tensor | None,
    allowed: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One token for each row of ``logits`` [rows, vocabulary], and the model's log p of it, fp32, in nats.

    With temperature 0 the likeliest token (the first of equals); else ``draws`` [rows], uniform in [0, 1),
    pick one by inverting the cumulative distribution. ``allowed`` [rows, vocabulary] bars all other tokens.
    Log p is the model's own: temperature 1, nothing left out.
    """
    chosen = torch.empty(len(logits), dtype=torch.long, device=logits.device)
    log_p = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    for start in range(0, len(logits), ROWS_PER_CHUNK):
        rows = slice(start, start + ROWS_PER_CHUNK)
        own = logits[rows].float()
        total = own.logsumexp(dim=-1)
        if allowed is not None:
            own = own.masked_fill(~allowed[rows], float("-inf"))
        if temperature == 0:
            picked = _likeliest(own)
        else:
            assert draws is not None
            picked = _drawn(own / temperature, top_k, top_p, draws[rows])
        chosen[rows] = picked
        log_p[rows] = own.gather(1, picked[:, None])[:, 0] - total
    return chosen, log_p


def _likeliest(logits: Tensor) -> Tensor:
    # NumPy's argmax is vectorised on CPUs; torch's is ten times slower.
    if logits.device.type == "cpu":
        return torch.from_numpy(logits.numpy().argmax(axis=1))
    return logits.argmax(dim=1)


def _drawn(logits: Tensor, top_k: int | None, top_p: float, draws: Tensor) -> Tensor:
    """Nucleus sampling: Holtzman et al. 2020, arXiv 1904.09751; after top-k, as in Transformers."""
    if top_k is not None and top_k < logits.shape[1]:
        smallest = logits.topk(top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, float("-inf"))
    probabilities = torch.softmax(logits, dim=1)
    if top_p < 1:
        ordered, tokens = probabilities.sort(dim=1, descending=True, stable=True)
        # A token stays while those before it have not yet reached top_p.
        before = ordered.cumsum(dim=1) - ordered
        probabilities = probabilities.scatter(1, tokens, ordered.masked_fill_(before >= top_p, 0.0))
    cumulative = probabilities.cumsum(dim=1, dtype=torch.float64)
    total = cumulative[:, -1:]
    threshold = torch.minimum(draws[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, threshold, right=True)[:, 0]
