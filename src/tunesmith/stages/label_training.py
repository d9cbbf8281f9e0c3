"""The tuned model that chooses labels, on validation: after training, and watched while it lasts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tunesmith.records import Cost, Estimate, Scorecard
from tunesmith.stages.memory import peak_mb
from tunesmith.stages.session import Session

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.candidates.tuned import TunedModel
    from tunesmith.data.questions import Questions
    from tunesmith.evaluation.judging import Judging
    from tunesmith.training.validation import Metric

# Labels left out when validation is scored hold at most this share of the best one's probability.
CALIBRATION_MASS = 0.01
# Where the metric is watched while training, it is measured on at most so many rows of validation.
METRIC_ROWS = 256


def tuned_label_card(
    session: Session, tuned: TunedModel, judging: Judging, asked: Questions, adapter_sha256: str
) -> Scorecard:
    """The model just trained on validation, with its temperature and, where asked for, its threshold."""
    from tunesmith.candidates.calibration import fit_temperature
    from tunesmith.candidates.scope import best_in_scope, scoped
    from tunesmith.candidates.tuned import answer_tuned, score_tuned, tuned_candidate
    from tunesmith.evaluation.judging import judged, scoping_of

    labels, method = judging.labels, session.task.train.method
    scoping = scoping_of(judging)
    scoring = time.perf_counter()
    with session.bar("train", "tuned model on validation") as report:
        scores = score_tuned(tuned, asked.rows, CALIBRATION_MASS if scoping is None else 0.0, report)
    temperature = fit_temperature(scores.log_probabilities, labels, asked.rows)
    candidate = tuned_candidate(tuned, adapter_sha256, temperature, method)
    if scoping is not None:
        best = best_in_scope(scores.log_probabilities / temperature, labels, scoping.none_label)
        candidate = scoped(candidate, scoping, asked.rows, best, {"temperature": temperature})
    answers = answer_tuned(candidate, labels, scores)
    cost = Cost(time.perf_counter() - scoring, len(asked), scores.tokens, peak_mb())
    return judged(judging, candidate, "validation", asked, answers, cost)


def watched_label_metric(tuned: TunedModel, judging: Judging, asked: Questions) -> Metric:
    """The goal's metric while training, by label scoring, on evenly spaced rows of validation."""
    from tunesmith.candidates.answers import answers_from_scores
    from tunesmith.candidates.tuned import score_tuned
    from tunesmith.evaluation.judging import goal_estimate

    count = min(METRIC_ROWS, len(asked))
    some = asked.take([position * len(asked) // count for position in range(count)])

    def measured() -> Estimate:
        scores = score_tuned(tuned, some.rows, None)
        answers = answers_from_scores(scores.log_probabilities, tuned.labels, scores.tokens)
        return goal_estimate(judging, some, answers.labels)

    return measured
