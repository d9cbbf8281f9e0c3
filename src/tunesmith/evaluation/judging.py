"""How answers are judged, for every kind of task: the goal's metric, gains in it, and scorecards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.label_sets import label_set, target_labels
from tunesmith.data.questions import Questions, distinct_inputs, each_row, with_json_targets
from tunesmith.engine.automaton import DEAD
from tunesmith.errors import UserError
from tunesmith.records import Candidate, Cost, Estimate, PairedGain, Prediction, Row, Scorecard, SplitName
from tunesmith.run_records import LabelScore
from tunesmith.stats.intervals import proportion_interval
from tunesmith.stats.paired import clearly_behind
from tunesmith.task.kinds import SEVERAL_REFERENCES, SHOWN_METRICS, SMALLER_IS_BETTER, Kind
from tunesmith.task.scope_settings import NoneOfTheseSettings

if TYPE_CHECKING:  # torch, and the libraries behind the metrics, take seconds to import
    from tunesmith.candidates.answers import Answers
    from tunesmith.candidates.scope import Scoping
    from tunesmith.evaluation.metrics.answered import Answered, Measured
    from tunesmith.evaluation.metrics.own import OwnMetric

# A metric of a corpus that says nothing about one row is stood in for when rows are ranked.
_ROW_METRIC = {"cider": "chrf"}
# What a scorecard shows too where a task knows "none of these".
SCOPE_METRICS = ("false_accept_rate", "false_reject_rate")


@dataclass(frozen=True)
class Judging:
    """``goal`` names a metric, or is a function. ``labels`` come with classify and tag, ``schema`` with
    extract.

    ``labels`` are those that are learned; with ``none_of_these`` that of rows which fit none may be missing.
    """

    kind: Kind
    goal: str | OwnMetric
    labels: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    none_of_these: NoneOfTheseSettings | None = None

    @property
    def metric(self) -> str:
        """The goal's name, as written in the task."""
        return self.goal if isinstance(self.goal, str) else self.goal.name

    @property
    def sign(self) -> int:
        """1 where more is better, −1 where less is."""
        return -1 if self.metric in SMALLER_IS_BETTER else 1


def learned_rows(judging: Judging, rows: Sequence[Row]) -> list[Row]:
    """The rows as they are taught and judged: JSON targets in the one way of writing that is generated.

    Raises UserError naming the rows whose target is not JSON.
    """
    return with_json_targets(rows, judging.schema) if judging.kind == "extract" else list(rows)


def taught_rows(judging: Judging, rows: Sequence[Row]) -> list[Row]:
    """The rows that are learned from, as they are taught. Errors as in :func:`learned_rows`."""
    none = judging.none_of_these
    kept = rows if none is None or none.in_training else [row for row in rows if row.target != none.label]
    return learned_rows(judging, kept)


def scoping_of(judging: Judging) -> Scoping | None:
    """How a candidate finds its threshold for "none of these"; None where the task asks for none."""
    none = judging.none_of_these
    if none is None:
        return None
    from tunesmith.candidates.scope import Scoping
    from tunesmith.evaluation.metrics.scope import choose_threshold

    def chosen(rows: Sequence[Row], scores: NDArray[np.float64]) -> float:
        outside = [row.target == none.label for row in rows]
        groups = [row.group or row.id for row in rows]
        return choose_threshold(scores, outside, groups, none.false_accept_rate).threshold

    return Scoping(none.label, chosen)


def check_scope(judging: Judging, validation: Sequence[Row]) -> None:
    """UserError where "none of these" cannot be told: with one label, or too few such validation rows (exit
    code 3)."""
    scoping = scoping_of(judging)
    if scoping is None:
        return
    inside = [label for label in judging.labels if label != scoping.none_label]
    if len(inside) < 2:
        raise UserError(
            f"none_of_these: {len(inside)} label is left beside {scoping.none_label!r}",
            "give rows of two labels or more, or leave none_of_these out",
        )
    if not any(row.target == scoping.none_label for row in validation):
        raise UserError(
            f"none_of_these.label: no validation row has the target {scoping.none_label!r}",
            "write it as the target column does, or add rows that no label fits",
        )
    scoping.threshold(validation, np.zeros(len(validation)))


def check_targets(judging: Judging, rows: Sequence[Row]) -> None:
    """UserError naming the rows whose target the kind does not allow (no JSON, not of the schema, or such
    that no answer held to the schema could equal it) or the goal's metric cannot judge."""
    written = learned_rows(judging, rows)
    if judging.metric.startswith("rouge_"):
        from tunesmith.evaluation.metrics.overlap import check_rouge

        for row in written:
            check_rouge(row.source, row.target)
    if judging.schema is None:
        return
    from tunesmith.engine.schema import compile_schema
    from tunesmith.evaluation.metrics.schema import check_rows

    check_rows(written, judging.schema)
    answers = compile_schema(judging.schema)
    for row in written:
        end = answers.after(answers.start, row.target.encode())
        if end == DEAD or not answers.accepts(end):
            raise UserError(
                f"{row.source}: no answer under the schema can equal the target {row.target[:80]}",
                "name every field of the targets under properties, and write no number with an exponent",
            )


def questions(judging: Judging, rows: Sequence[Row]) -> Questions:
    """What is asked: with several references each distinct input with all its targets, else every row."""
    learned = learned_rows(judging, rows)
    return distinct_inputs(learned) if judging.kind in SEVERAL_REFERENCES else each_row(learned)


def goal_value(judging: Judging, asked: Questions, answers: Sequence[str]) -> float:
    """The goal's metric, its sign turned where it should be small."""
    from tunesmith.evaluation.metrics.measure import value_of

    return judging.sign * value_of(judging.goal, _answered(judging, asked, answers))


def value_of_labels(judging: Judging) -> Callable[[Sequence[Row], Sequence[str]], float]:
    """The goal's value of labels, for the choices among settings of one candidate."""
    return lambda rows, labels: goal_value(judging, each_row(rows), labels)


def goal_gain(
    judging: Judging,
    asked: Questions,
    own: Sequence[str],
    other: Sequence[str],
    opponent: str,
    alpha_one_sided: float,
) -> PairedGain:
    """The paired gain of ``own`` answers over ``other`` ones in the goal's metric."""
    from tunesmith.evaluation.metrics.measure import paired_metric_gain

    return paired_metric_gain(
        judging.goal,
        _answered(judging, asked, own),
        _answered(judging, asked, other),
        opponent,
        alpha_one_sided,
    )


def is_behind(
    judging: Judging,
    asked: Questions,
    answers: Sequence[str],
    leader: Sequence[str],
    alpha_one_sided: float,
) -> bool:
    """Whether the whole interval of the gain over the leader lies below 0; never with under 50 groups."""
    if answers == leader or len({row.group for row in asked.rows}) < 2:
        return False
    return clearly_behind(goal_gain(judging, asked, answers, leader, "leader", alpha_one_sided))


def judged(
    judging: Judging,
    candidate: Candidate,
    split: SplitName,
    asked: Questions,
    answers: Answers,
    cost: Cost,
) -> Scorecard:
    """The scorecard of ``answers`` to ``asked``; on the sealed test only aggregates are kept."""
    if judging.kind != "classify":
        return _text_scorecard(judging, candidate, split, asked, answers, cost)
    from tunesmith.evaluation.scorecards import scorecard

    card = scorecard(candidate, split, asked.rows, answers, judging.labels, cost)
    if judging.none_of_these is not None:
        shown = _measured_if_possible(SCOPE_METRICS, _answered(judging, asked, answers.labels))
        card = replace(card, metrics=card.metrics | shown)
    if candidate.kind == "endpoint":
        card = replace(card, metrics=card.metrics | {"unparsed": _unparsed(judging, asked, answers)})
    if judging.metric == "accuracy":
        return card
    clean = [index for index, row in enumerate(asked.rows) if not row.conflict]
    texts = [answers.labels[index] for index in clean]
    return replace(
        card,
        metrics=card.metrics | {judging.metric: goal_estimate(judging, asked, answers.labels)},
        metrics_without_conflicts=card.metrics_without_conflicts
        | _goal_if_measured(judging, asked.take(clean), texts),
    )


def _unparsed(judging: Judging, asked: Questions, answers: Answers) -> Estimate:
    """The share of answers that are no label, or name one that is none; they count as wrong."""
    known = set(judging.labels)
    named = label_set if judging.kind == "tag" else lambda answer: {answer}
    return proportion_interval(
        [float(not named(answer) <= known) for answer in answers.labels], [row.group for row in asked.rows]
    )


def _text_scorecard(
    judging: Judging,
    candidate: Candidate,
    split: SplitName,
    asked: Questions,
    answers: Answers,
    cost: Cost,
) -> Scorecard:
    metrics = {judging.metric: goal_estimate(judging, asked, answers.labels)}
    shown = [name for name in SHOWN_METRICS[judging.kind] if name not in metrics]
    metrics |= _measured_if_possible(shown, _answered(judging, asked, answers.labels))
    if judging.kind == "tag" and candidate.kind == "endpoint":
        metrics["unparsed"] = _unparsed(judging, asked, answers)
    predictions: tuple[Prediction, ...] = ()
    if split != "test":
        predictions = tuple(
            Prediction(row.id, answer, None, answer.strip() in {one.strip() for one in right}, score)
            for row, right, answer, score in zip(
                asked.rows,
                asked.references,
                answers.labels,
                row_scores(judging, asked, answers.labels),
                strict=True,
            )
        )
    clean = [index for index, row in enumerate(asked.rows) if not row.conflict]
    agreed: dict[str, Estimate] = {}
    if judging.kind == "tag" and len({asked.rows[index].group for index in clean}) > 1:
        texts = [answers.labels[index] for index in clean]
        agreed = {judging.metric: goal_estimate(judging, asked.take(clean), texts)}
        agreed |= _measured_if_possible(shown, _answered(judging, asked.take(clean), texts))
    return Scorecard(candidate, split, metrics, agreed, predictions, cost)


def _measured_if_possible(names: Sequence[str], answered: Answered) -> dict[str, Estimate]:
    """What is only shown may be unmeasured: no schema, another script, no row out of scope."""
    from tunesmith.evaluation.metrics.measure import measure

    metrics: dict[str, Estimate] = {}
    for name in names:
        try:
            metrics |= measure([name], answered)
        except UserError as error:
            if error.exit_code != 3:
                raise
    return metrics


def row_scores(judging: Judging, asked: Questions, answers: Sequence[str]) -> list[float | None]:
    """The goal's metric of every row by itself, larger when better; None where one row has none."""
    from tunesmith.evaluation.metrics.measure import value_of

    metric = _ROW_METRIC.get(judging.metric, judging.goal)
    scores: list[float | None] = []
    for index, answer in enumerate(answers):
        try:
            one = _answered(judging, asked.take([index]), [answer])
            scores.append(judging.sign * value_of(metric, one))
        except UserError as error:
            if error.exit_code != 3:
                raise
            scores.append(None)
    return scores


def measured_goal(judging: Judging, asked: Questions, answers: Sequence[str]) -> Measured:
    """The goal's metric as scores by row, or as a function of all rows together."""
    from tunesmith.evaluation.metrics.measure import measured

    return measured(judging.goal, _answered(judging, asked, answers))


def goal_estimate(judging: Judging, asked: Questions, answers: Sequence[str]) -> Estimate:
    """The goal's metric with its interval. Errors as in ``measure``."""
    from tunesmith.evaluation.metrics.measure import measure

    return measure([judging.goal], _answered(judging, asked, answers))[judging.metric]


def label_scores(judging: Judging, asked: Questions, answers: Sequence[str]) -> tuple[LabelScore, ...]:
    """Precision, recall and F1 of each label of ``kind: tag``, the most frequent first.

    A label that fewer than two groups have is left out: it has no interval.
    """
    from tunesmith.evaluation.metrics.multilabel import label_set_scores

    counts = target_labels(asked.rows, label_sets=True)
    table = label_set_scores(_answered(judging, asked, answers))
    return tuple(
        LabelScore(label, counts[label], scores["precision"], scores["recall"], scores["f1"])
        for label, scores in sorted(table.items(), key=lambda item: (-counts[item[0]], item[0]))
    )


def _goal_if_measured(judging: Judging, asked: Questions, answers: Sequence[str]) -> dict[str, Estimate]:
    if len({row.group for row in asked.rows}) < 2:
        return {}
    return {judging.metric: goal_estimate(judging, asked, answers)}


def _answered(judging: Judging, asked: Questions, answers: Sequence[str]) -> Answered:
    from tunesmith.evaluation.metrics.answered import Answered

    none = judging.none_of_these
    return Answered(
        asked.rows,
        answers,
        references=asked.references,
        labels=judging.labels,
        none_label=None if none is None else none.label,
        schema=judging.schema,
    )
