"""Batched sampling with a key–value cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import DynamicCache, PreTrainedModel

from tunesmith.engine.head import own_logits


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    end_token: int,
    pad_token: int,
    temperature: float,
    seed: int,
) -> list[list[int]]:
    """Up to ``new_tokens`` sampled token ids after each prompt, the end token not included.

    The same model, prompts and seed give the same samples.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, longest = len(prompts), max(len(prompt) for prompt in prompts)
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    ids = torch.full((rows, longest), pad_token)
    for index, prompt in enumerate(prompts):
        ids[index, : len(prompt)] = torch.tensor(prompt)
    dtype = next(model.parameters()).dtype
    blocked = torch.finfo(dtype).min
    cache = DynamicCache()
    hidden = model.base_model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
    state = hidden[torch.arange(rows), lengths - 1]
    outputs: list[list[int]] = [[] for _ in prompts]
    running = torch.ones(rows, dtype=torch.bool)
    for step in range(new_tokens):
        probabilities = torch.softmax(own_logits(model, state).float() / temperature, dim=-1)
        chosen = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
        running &= chosen != end_token
        for row in torch.nonzero(running)[:, 0].tolist():
            outputs[row].append(int(chosen[row]))
        if not bool(running.any()) or step == new_tokens - 1:
            break
        # Prompts are padded on the right, so the padding between prompt and samples is masked out.
        keys = torch.arange(longest + step + 1)
        visible = (keys < lengths[:, None]) | (keys >= longest)
        mask = torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, blocked)
        state = model.base_model(
            input_ids=chosen[:, None],
            attention_mask=mask[:, None, None],
            position_ids=(lengths + step)[:, None],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
    return outputs
