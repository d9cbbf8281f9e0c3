"""Tokens that a task adds to its base: their rows of the embeddings and of the head are trained, no others.

What is saved are the whole grown matrices, as PEFT's ``modules_to_save`` has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tunesmith.errors import UserError
from tunesmith.models.loading import LoadedModel
from tunesmith.models.tokenizing import add_tokens


class GrownEmbedding(nn.Module):
    """A frozen embedding of which ``rows`` [tokens, width], from row ``first`` on, are trained."""

    def __init__(self, base: nn.Module, first: int, rows: nn.Parameter) -> None:
        super().__init__()
        self.base, self.first, self.enabled = base, first, True
        # After the base: a model's first parameter tells the dtype it computes in.
        self.trained = nn.ParameterList([rows])

    @property
    def rows(self) -> Tensor:
        """The trained rows [tokens, width], fp32 masters."""
        rows: Tensor = self.trained[0]
        return rows

    @property
    def weight(self) -> Tensor:
        """[vocabulary, width] with the trained rows in their places."""
        return _grown_weight(self)

    def forward(self, ids: Tensor) -> Tensor:
        output: Tensor = self.base(ids)
        if not self.enabled:
            return output
        own = (ids >= self.first) & (ids < self.first + len(self.rows))
        # By the base's own code: some families scale what they look up.
        trained: Tensor = torch.func.functional_call(
            self.base,
            {"weight": self.rows.to(output.dtype)},
            ((ids - self.first).clamp(0, len(self.rows) - 1),),
        )
        return torch.where(own[..., None], trained, output)


class GrownHead(nn.Module):
    """A frozen output head, some rows of which are trained."""

    def __init__(self, base: nn.Linear, first: int, rows: nn.Parameter) -> None:
        super().__init__()
        self.base, self.first, self.enabled = base, first, True
        self.trained = nn.ParameterList([rows])

    @property
    def rows(self) -> Tensor:
        """The trained rows [tokens, width], fp32 masters."""
        rows: Tensor = self.trained[0]
        return rows

    @property
    def weight(self) -> Tensor:
        """[vocabulary, width] with the trained rows in their places."""
        return _grown_weight(self)

    @property
    def bias(self) -> Tensor | None:
        bias: Tensor | None = self.base.bias
        return bias

    def forward(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.weight, self.bias)


def grow(loaded: LoadedModel, tokens: Sequence[str]) -> LoadedModel:
    """``loaded`` with ``tokens`` in its vocabulary, each starting as the mean of what it was spelled with.

    The model is changed in place, and not trained yet. Raises UserError where a token is known already.
    """
    if not tokens:
        return loaded
    spelled = [loaded.chat.plain_text(token) for token in tokens]
    first = len(loaded.tokenizer)
    grown = add_tokens(loaded, tokens)
    model: Any = grown.model
    if len(grown.tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(grown.tokenizer), mean_resizing=False)
        model.requires_grad_(False)
    head = model.get_output_embeddings()
    with torch.no_grad():
        for weight in _distinct(model.get_input_embeddings().weight, head.weight):
            for place, pieces in enumerate(spelled, start=first):
                weight[place] = weight[pieces].float().mean(0).to(weight.dtype)
    return grown


def train_added_rows(model: Any, first: int, count: int) -> None:
    """Train ``count`` rows of embeddings and head from ``first`` on; where the two are tied, as one."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    names = {id(module): name for name, module in model.named_modules()}
    if not isinstance(head, nn.Linear) or not isinstance(embedding, nn.Embedding):
        raise UserError(
            "train.add_tokens: embeddings and output head of this model are trained whole, or are of a kind "
            "that cannot be grown",
            fix="leave them out of train.modules_to_save and train.targets",
        )
    # The trained rows are looked up as a matrix of their own, in which the padding token's id means another.
    embedding.padding_idx = None
    rows = _trained(embedding.weight, first, count)
    of_head = rows if head.weight is embedding.weight else _trained(head.weight, first, count)
    model.set_submodule(names[id(embedding)], GrownEmbedding(embedding, first, rows))
    model.set_submodule(names[id(head)], GrownHead(head, first, of_head))


def grown_modules(model: nn.Module) -> dict[str, GrownEmbedding | GrownHead]:
    """The modules some rows of which are trained, by the name the base model gives them."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (GrownEmbedding, GrownHead))
    }


def _trained(weight: Tensor, first: int, count: int) -> nn.Parameter:
    return nn.Parameter(weight[first : first + count].detach().float().clone())


def _grown_weight(module: GrownEmbedding | GrownHead) -> Tensor:
    weight: Tensor = module.base.weight  # type: ignore[assignment]  # nn.Module's __getattr__ hides it
    if not module.enabled:
        return weight
    after = module.first + len(module.rows)
    return torch.cat([weight[: module.first], module.rows.to(weight.dtype), weight[after:]])


def _distinct(*tensors: Tensor) -> list[Tensor]:
    return list({tensor.data_ptr(): tensor for tensor in tensors}.values())
