"""A shortlist of bases: prompts on a few validation rows; what is clearly worse is dropped early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import UserError
from tunesmith.evaluation.shortlist import ComparedBase, Comparison
from tunesmith.models.catalog import Base
from tunesmith.models.size import count_parameters
from tunesmith.records import Cost, Dataset, Row, Scorecard
from tunesmith.stages.answerers import prompt_answerer
from tunesmith.stages.answering import cutting_of, judging_identity, judging_of, opponents_identity
from tunesmith.stages.bases import check_memory, loaded_base, prompt_cards
from tunesmith.stages.embedding import embeddings_sha256
from tunesmith.stages.memory import peak_mb, reset_peak
from tunesmith.stages.opponents import PACKAGES as OPPONENTS_PACKAGES
from tunesmith.stages.race import RACE_ALPHA
from tunesmith.stages.session import Session, machine
from tunesmith.stats.paired import FEWEST_GROUPS
from tunesmith.workspace import cached, stage_key

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.data.questions import Questions
    from tunesmith.evaluation.judging import Judging
    from tunesmith.models.loading import LoadedModel

PACKAGES = (*OPPONENTS_PACKAGES, "tunesmith.stages.answerers", "tunesmith.stages.compare")


@dataclass(frozen=True)
class _Measured:
    """A base with its answers to the first rows of ``asked``; none where it was dropped before."""

    base: ComparedBase
    answers: tuple[str, ...] = ()


def compare_bases(session: Session, dataset: Dataset, names: Sequence[str], most_rows: int) -> Comparison:
    """Every base under the task's prompts on up to ``most_rows`` validation rows, one after the other.

    The prompt is chosen on the first half. A base that is clearly behind the best so far there (one-sided
    0.5 %, at least 50 groups), does not fit into memory or has rows longer than its context is asked no more.
    Raises UserError for a base that cannot be found or loaded, and where the task has no prompt.
    """
    from tunesmith.candidates.forms import own_forms
    from tunesmith.data.versions import read_split
    from tunesmith.engine.precision import probe_precision
    from tunesmith.evaluation.judging import questions, taught_rows

    if not own_forms(session.task.opponents):
        raise UserError(
            "opponents: no prompt to compare bases with", "set opponents.zero_shot: true, or few_shot"
        )
    bases = [session.find_base(name) for name in dict.fromkeys(names)]
    precision = probe_precision().precision
    inputs = {
        "dataset": dataset.manifest.version,
        "instruction": session.task.instruction,
        "opponents": opponents_identity(session.task),
        "embeddings": embeddings_sha256(session),
        "judging": judging_identity(session.task),
        "bases": [[base.name, base.sha256] for base in bases],
        "rows": most_rows,
        "precision": precision,
        "machine": machine(),
    }

    def measured(_: Path) -> Comparison:
        judging = judging_of(session.task, dataset.manifest.labels)
        train = taught_rows(judging, read_split(dataset, "train"))
        whole = questions(judging, read_split(dataset, "validation"))
        # An id is the hash of a row's content: ordered by it, the first rows are a fair draw.
        order = sorted(range(len(whole)), key=lambda index: whole.rows[index].id)
        return _compare(session, bases, precision, judging, train, whole.take(order[:most_rows]))

    folder = session.folder.stage("compare", stage_key("compare", inputs, PACKAGES))
    return cached(folder, Comparison, measured)[0]


def _compare(
    session: Session,
    bases: Sequence[Base],
    precision: str,
    judging: Judging,
    train: Sequence[Row],
    asked: Questions,
) -> Comparison:
    from tunesmith.evaluation.judging import goal_value

    found: list[_Measured] = []
    leader: _Measured | None = None
    for base in bases:
        one = _measure(session, base, precision, judging, train, asked, leader)
        found.append(one)
        if one.base.dropped is None and (
            leader is None
            or goal_value(judging, asked, one.answers) > goal_value(judging, asked, leader.answers)
        ):
            leader = one
    compared = [_against(leader, one, judging, asked) for one in found]
    compared.sort(
        key=lambda base: (
            base.dropped is not None,
            -judging.sign * base.quality.value if base.quality else float("inf"),
        )
    )
    groups = len({row.group for row in asked.rows})
    return Comparison(judging.metric, len(asked), groups, precision, tuple(compared))


def _measure(
    session: Session,
    base: Base,
    precision: str,
    judging: Judging,
    train: Sequence[Row],
    asked: Questions,
    leader: _Measured | None,
) -> _Measured:
    known = ComparedBase(base.name, base.licence, count_parameters(Path(base.folder)), None)
    try:
        check_memory(base, precision)
    except UserError as error:
        return _Measured(replace(known, dropped=error.what))
    reset_peak()
    with loaded_base(session, base, precision) as loaded:
        longest = _longest_row(session, loaded, asked)
        known = replace(known, context_tokens=loaded.context_tokens, longest_row_tokens=longest)
        if longest > loaded.context_tokens:
            return _Measured(replace(known, dropped="a row is longer than its context"))
        return _asked(session, loaded, known, judging, train, asked, leader)


def _asked(
    session: Session,
    loaded: LoadedModel,
    known: ComparedBase,
    judging: Judging,
    train: Sequence[Row],
    asked: Questions,
    leader: _Measured | None,
) -> _Measured:
    from tunesmith.evaluation.judging import goal_estimate, is_behind

    half = asked.take(range(min(len(asked), max(FEWEST_GROUPS, len(asked) // 2))))
    cards = prompt_cards(session, loaded, judging, train, half)
    best = max(cards, key=lambda card: judging.sign * card.metrics[judging.metric].value)
    answers = [prediction.answer for prediction in best.predictions]
    cost, dropped = best.cost, None
    if leader is not None and is_behind(judging, half, answers, leader.answers[: len(half)], RACE_ALPHA):
        dropped = f"clearly behind {leader.base.name} on {len(half)} rows"
    elif len(asked) > len(half):
        rest = asked.take(range(len(half), len(asked)))
        more, more_cost = _rest(session, loaded, judging, train, best, rest)
        answers, cost = answers + more, cost.plus(more_cost)
    measured = asked.take(range(len(answers)))
    return _Measured(
        replace(
            known,
            dropped=dropped,
            prompt=best.candidate.name,
            quality=goal_estimate(judging, measured, answers),
            seconds_per_row=cost.seconds / cost.rows,
            peak_memory_mb=cost.peak_memory_mb,
        ),
        tuple(answers),
    )


def _rest(
    session: Session,
    loaded: LoadedModel,
    judging: Judging,
    train: Sequence[Row],
    best: Scorecard,
    rest: Questions,
) -> tuple[list[str], Cost]:
    import time

    started = time.perf_counter()
    with session.bar("compare", f"{best.candidate.name} on {loaded.base.name}") as report:
        answers = prompt_answerer(session, loaded, judging, train, best.candidate)(rest.rows, report)
    cost = Cost(time.perf_counter() - started, len(rest), answers.tokens, peak_mb())
    return answers.labels, cost


def _longest_row(session: Session, loaded: LoadedModel, asked: Questions) -> int:
    """The most tokens of a row, or of a window of one, under the instruction, with its answer."""
    from tunesmith.data.windowed import in_windows
    from tunesmith.models.rendering import instructed, render_row

    instruction = session.task.instruction
    rows = in_windows(asked.rows, cutting_of(session.task)).rows
    return max(len(render_row(loaded, instructed(instruction, row), row.target).ids) for row in rows)


def _against(leader: _Measured | None, one: _Measured, judging: Judging, asked: Questions) -> ComparedBase:
    """The base with its gain over the best one, and dropped where that is clearly below 0."""
    from tunesmith.evaluation.judging import goal_gain, is_behind

    if leader is None or one is leader or not one.answers:
        return one.base
    both = asked.take(range(len(one.answers)))
    theirs = leader.answers[: len(both)]
    gain = goal_gain(judging, both, one.answers, theirs, leader.base.name, RACE_ALPHA)
    dropped = one.base.dropped
    if dropped is None and is_behind(judging, both, one.answers, theirs, RACE_ALPHA):
        dropped = f"clearly behind {leader.base.name} on {len(both)} rows"
    return replace(one.base, gain=gain, dropped=dropped)
