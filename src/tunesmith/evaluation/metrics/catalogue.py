"""Every metric by name. A new one is a function in a family's file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tunesmith.evaluation.metrics import (
    calibration,
    classification,
    diversity,
    extraction,
    grounding,
    likelihood,
    multilabel,
    overlap,
    scope,
)
from tunesmith.evaluation.metrics.answered import Answered, Measured
from tunesmith.evaluation.metrics.cider import cider

Better = Literal["larger", "smaller"]


@dataclass(frozen=True)
class Metric:
    """How a metric is measured, and which way is better; None where neither is."""

    measure: Callable[[Answered], Measured]
    better: Better | None = "larger"


METRICS: dict[str, Metric] = {
    # One label per row.
    "accuracy": Metric(classification.accuracy),
    "balanced_accuracy": Metric(classification.macro_recall),
    "macro_precision": Metric(classification.macro_precision),
    "macro_recall": Metric(classification.macro_recall),
    "macro_f1": Metric(classification.macro_f1),
    "micro_precision": Metric(classification.micro_precision),
    "micro_recall": Metric(classification.micro_recall),
    "micro_f1": Metric(classification.micro_f1),
    "weighted_precision": Metric(classification.weighted_precision),
    "weighted_f1": Metric(classification.weighted_f1),
    "mcc": Metric(classification.mcc),
    # Several labels per row.
    "subset_accuracy": Metric(multilabel.subset_accuracy),
    "multilabel_macro_f1": Metric(multilabel.multilabel_macro_f1),
    "multilabel_micro_f1": Metric(multilabel.multilabel_micro_f1),
    "multilabel_weighted_f1": Metric(multilabel.multilabel_weighted_f1),
    "multilabel_macro_precision": Metric(multilabel.multilabel_macro_precision),
    "multilabel_macro_recall": Metric(multilabel.multilabel_macro_recall),
    "multilabel_micro_precision": Metric(multilabel.multilabel_micro_precision),
    "multilabel_micro_recall": Metric(multilabel.multilabel_micro_recall),
    "jaccard": Metric(multilabel.jaccard),
    "row_f1": Metric(multilabel.row_f1),
    "hamming_loss": Metric(multilabel.hamming_loss, "smaller"),
    # None of these.
    "scope_auroc": Metric(scope.scope_auroc),
    "false_accept_rate": Metric(scope.false_accept_rate, "smaller"),
    "false_reject_rate": Metric(scope.false_reject_rate, "smaller"),
    # Probabilities.
    "ece": Metric(calibration.ece, "smaller"),
    "brier": Metric(calibration.brier, "smaller"),
    "brier_labels": Metric(calibration.brier_labels, "smaller"),
    "overconfidence": Metric(calibration.overconfidence, None),
    "perplexity": Metric(likelihood.perplexity, "smaller"),
    "bits_per_byte": Metric(likelihood.bits_per_byte, "smaller"),
    # Extraction.
    "exact_match": Metric(extraction.exact_match),
    "schema_valid": Metric(extraction.schema_valid),
    "field_f1": Metric(extraction.field_f1),
    "field_f1_by_value": Metric(extraction.field_f1_by_value),
    "entity_f1": Metric(extraction.entity_f1),
    "entity_f1_by_value": Metric(extraction.entity_f1_by_value),
    # Generated text against references.
    "rouge_1": Metric(overlap.rouge_1),
    "rouge_2": Metric(overlap.rouge_2),
    "rouge_l": Metric(overlap.rouge_l),
    "bleu": Metric(overlap.bleu),
    "bleu_lowercase": Metric(overlap.bleu_lowercase),
    "chrf": Metric(overlap.chrf),
    "cider": Metric(cider),
    "length_ratio": Metric(overlap.length_ratio, None),
    # Generated text by itself.
    "distinct_1": Metric(diversity.distinct_1),
    "distinct_2": Metric(diversity.distinct_2),
    "distinct_3": Metric(diversity.distinct_3),
    "repetition": Metric(diversity.repetition, "smaller"),
    # Generated text against its source.
    "unsupported_words": Metric(grounding.unsupported_words, "smaller"),
    "unsupported_numbers": Metric(grounding.unsupported_numbers, "smaller"),
    "unsupported_names": Metric(grounding.unsupported_names, "smaller"),
    "entailed": Metric(grounding.entailed),
}
