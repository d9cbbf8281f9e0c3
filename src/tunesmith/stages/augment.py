"""Augmentation: more training rows made from training rows, filtered, marked, and never tested with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import UserError
from tunesmith.records import Message, Row
from tunesmith.stages.data import read_grouped
from tunesmith.stages.session import Session

if TYPE_CHECKING:
    from tunesmith.data.made import MadeRow

REWRITE = (
    "Rewrite the user's message in other words. Keep its meaning, its language, and every name and number. "
    "Answer with the rewritten message only."
)
TEMPERATURE, TOP_P = 0.8, 0.95
MOST_NEW_TOKENS = 256


@dataclass(frozen=True)
class Augmented:
    """What was written, by how it was made, and what the filters left out, by reason.

    ``judged`` is False for free-text answers: no classifier could say whether a label still fits.
    """

    file: str
    train_rows: int
    made: dict[str, int]
    written: dict[str, int]
    left_out: dict[str, int]
    judged: bool


def augment(
    session: Session,
    out: Path,
    rules: Path | None = None,
    swaps: Sequence[str] = (),
    by_model: int = 0,
) -> Augmented:
    """Make rows from the task's training rows; write those that pass the filters, for ``data.train_extra``.

    ``rules`` is a YAML file of paraphrases and templates, ``swaps`` are dimensions of the lexicon
    (gender, …), ``by_model`` is how many training rows the base itself rewrites. Validation and test rows
    are never made
    from, and their labels judge nothing; they only keep copies of themselves out.

    Raises UserError for files that cannot be used, and where nothing was asked for.
    """
    from tunesmith.data.labelling.augmentation import from_attributes, paraphrased, read_rules, swapped_rows
    from tunesmith.data.labelling.filters import keep_made
    from tunesmith.data.made import write_made
    from tunesmith.data.splits import split_rows

    if rules is None and not swaps and not by_model:
        raise UserError("nothing to make rows by", "give --rules FILE, --swap DIMENSION or --by-model NUMBER")
    read = read_grouped(session)
    split = split_rows(read.rows, read.spec, read.test_rows)
    made: list[MadeRow] = []
    if rules is not None:
        found = read_rules(rules)
        made += [*paraphrased(split.train, found.paraphrases), *from_attributes(split.train, found.templates)]
    made += swapped_rows(split.train, swaps)
    refused: Counter[str] = Counter()
    if by_model:
        made += _rewritten(session, split.train, by_model, refused)
    kept = keep_made(made, split.train, [*split.validation, *split.test])
    write_made(out, kept.rows)
    return Augmented(
        file=str(out),
        train_rows=len(split.train),
        made=dict(Counter(one.how for one in made) + Counter({"model": refused.total()})),
        written=dict(Counter(one.how for one in kept.rows)),
        left_out=dict(Counter(kept.left_out) + refused),
        judged=kept.judged,
    )


def _rewritten(session: Session, train: Sequence[Row], number: int, refused: Counter[str]) -> list[MadeRow]:
    """Training rows in the base's own words; what cannot mean the same is counted in ``refused``.

    An id is the hash of a row's content: ordered by it, the first rows are a fair draw.
    """
    from tunesmith.data.labelling.filters import keeps_meaning
    from tunesmith.data.made import MadeRow
    from tunesmith.engine.generation import Decoding, generate
    from tunesmith.engine.precision import probe_precision
    from tunesmith.models.rendering import encode, render_prompt

    loaded = session.loaded(probe_precision().precision)
    drawn = sorted(train, key=lambda row: row.id)[:number]
    # The last message is what a row asks; a long one would not be rewritten whole.
    longest = min(MOST_NEW_TOKENS // 2, loaded.context_tokens // 8)
    lengths = {row.id: len(encode(loaded, row.messages[-1].content)) for row in drawn}
    rows = [row for row in drawn if lengths[row.id] <= longest]
    refused["too long to rewrite"] += len(drawn) - len(rows)
    if not rows:
        return []
    prompts = [
        render_prompt(loaded, [Message("system", REWRITE), Message("user", row.messages[-1].content)])
        for row in rows
    ]
    # What is more than twice as long is refused below: it need not be written to its end.
    limit = 2 * max(lengths[row.id] for row in rows) + 16
    tokenizer = loaded.tokenizer
    decoding = Decoding(limit, loaded.end_token, TEMPERATURE, TOP_P, seed=session.task.train.seed)
    with session.bar("augment", "rewriting rows") as report:
        answers = generate(
            loaded.model,
            prompts,
            decoding,
            lambda tokens: str(tokenizer.decode(tokens, skip_special_tokens=True)),
            advance=lambda done, total: report(done, total, "rows"),
        )
    made = []
    for row, answer in zip(rows, answers, strict=True):
        text = (answer.text or "").strip()
        last = row.messages[-1]
        why = "not finished" if answer.ended != "end" else keeps_meaning(last.content, text)
        if why is not None or not text:
            refused[f"by the model: {why or 'empty'}"] += 1
            continue
        messages = (*row.messages[:-1], Message(last.role, text))
        made.append(MadeRow("model", row.source, messages, row.target, row.id))
    return made
