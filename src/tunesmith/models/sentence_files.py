"""How a folder of sentence-transformers says that its encoder makes one vector of a text's tokens.

Read are modules.json, the pooling's config.json, sentence_*_config.json (the most tokens, lower case) and
config_sentence_transformers.json (a prompt before every text). A folder without modules.json is a plain
encoder: the mean over all tokens, as in Sentence-BERT (Reimers and Gurevych 2019, arXiv 1908.10084).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunesmith.errors import UserError

How = Literal["mean", "cls", "max"]
# By the names of both kinds of files, old and new. A mean over √n instead of n has the same direction.
_WAYS: dict[str, How] = {
    "mean": "mean",
    "mean_tokens": "mean",
    "mean_sqrt_len_tokens": "mean",
    "cls": "cls",
    "cls_token": "cls",
    "max": "max",
    "max_tokens": "max",
}
_PREFIX = "pooling_mode_"


@dataclass(frozen=True)
class Pooling:
    """``how`` one vector is made of those of the tokens, which are at most ``most_tokens`` at a time.

    ``prompt`` stands before every text; with ``lower`` the text is made lower case.
    """

    how: How = "mean"
    most_tokens: int | None = None
    prompt: str = ""
    lower: bool = False


def read_pooling(folder: Path, setting: str) -> Pooling:
    """What the files in ``folder`` say. UserError (naming ``setting``) where that cannot be done here."""
    modules = _read(folder / "modules.json", setting)
    if modules is None:
        return Pooling()
    how: How = "mean"
    prompt = _prompt(folder, setting)
    for module in modules if isinstance(modules, list) else []:
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind == "Pooling":
            how = _way(folder / str(module.get("path", "")) / "config.json", prompt, setting)
        elif kind not in ("Transformer", "Normalize"):
            raise UserError(
                f"{setting}: {folder / 'modules.json'} asks for a step that is not made here: "
                f"{kind or 'one without a type'}",
                "name a model whose vectors are pooled tokens alone, such as all-MiniLM-L6-v2",
            )
    limits = [_read(path, setting) for path in sorted(folder.glob("sentence_*_config.json"))]
    limit: dict[str, Any] = next((one for one in limits if isinstance(one, dict)), {})
    most = limit.get("max_seq_length")
    return Pooling(
        how,
        most if isinstance(most, int) and most > 0 else None,
        prompt,
        limit.get("do_lower_case") is True,
    )


def _way(path: Path, prompt: str, setting: str) -> How:
    config = _read(path, setting)
    config = config if isinstance(config, Mapping) else {}
    given = config.get("pooling_mode")
    names = [given] if isinstance(given, str) else given if isinstance(given, list) else None
    if names is None:
        flags = [name for name, value in config.items() if name.startswith(_PREFIX) and value is True]
        names = [name.removeprefix(_PREFIX) for name in flags]
    if len(names) != 1 or names[0] not in _WAYS:
        raise UserError(
            f"{setting}: {path} asks for {' and '.join(map(str, names)) or 'no'} pooling",
            "name a model with one of: mean, cls, max",
        )
    if prompt and config.get("include_prompt") is False:
        raise UserError(
            f"{setting}: {path} leaves the prompt {prompt!r} out of the pooling, which is not done here",
            "name a model without a prompt, or with one that is pooled like the text",
        )
    return _WAYS[names[0]]


def _prompt(folder: Path, setting: str) -> str:
    """The prompt that stands before every text unless another is asked for; mostly there is none."""
    config = _read(folder / "config_sentence_transformers.json", setting)
    if not isinstance(config, dict):
        return ""
    prompts, name = config.get("prompts"), config.get("default_prompt_name")
    return str(prompts.get(name, "")) if isinstance(prompts, dict) and name is not None else ""


def _read(path: Path, setting: str) -> Any:
    """The JSON of a file; None where there is none."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{setting}: {path} is not JSON ({error})", "fetch the model's files again"
        ) from error
