"""Kinds of task, the metrics that fit each, and how a metric is named and written.

The metrics themselves are in ``evaluation/metrics``; only their names are needed to check a task file.
"""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal["classify", "tag", "extract", "generate", "summarise", "answer", "chat"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Kinds whose answers come out of a fixed set of labels: one of them, or any number.
LABELLED: frozenset[Kind] = frozenset({"classify", "tag"})
# Kinds with a right answer to be thought about first, and those in which answers that are drawn can agree.
REASONED_KINDS: tuple[Kind, ...] = ("classify", "tag", "extract", "answer")
VOTED_KINDS: tuple[Kind, ...] = ("classify", "tag", "extract")
# Kinds with many right answers: several targets of one input are several references there. A label, or the
# fields of a text, are right or wrong: several targets contradict each other.
SEVERAL_REFERENCES: frozenset[Kind] = frozenset({"generate", "summarise", "answer", "chat"})

_LABELS = (
    *("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "micro_precision"),
    *("micro_recall", "micro_f1", "weighted_precision", "weighted_f1", "mcc"),
)
_LABEL_SETS = (
    *("jaccard", "row_f1", "subset_accuracy", "multilabel_micro_f1", "multilabel_macro_f1"),
    *("multilabel_weighted_f1", "multilabel_micro_precision", "multilabel_micro_recall"),
    *("multilabel_macro_precision", "multilabel_macro_recall", "hamming_loss"),
)
_FIELDS = (
    *("field_f1", "field_f1_by_value", "entity_f1", "entity_f1_by_value", "exact_match", "schema_valid"),
)
_TEXTS = ("rouge_1", "rouge_2", "rouge_l", "bleu", "bleu_lowercase", "chrf", "cider", "exact_match")
# What an answer says that its source does not; kinds whose answers must rest on their source are guarded.
GROUNDING_METRICS = ("unsupported_words", "unsupported_numbers", "unsupported_names")
# The share of an answer's sentences that its source does not entail, by a model of the user's own.
UNENTAILED = "unentailed"
GROUNDED_KINDS: tuple[Kind, ...] = ("summarise", "answer")
_GROUNDED = (*_TEXTS, *GROUNDING_METRICS)

# What goal.metric may name, the default first; or a function of the user's own.
GOAL_METRICS: dict[Kind, tuple[str, ...]] = {
    "classify": _LABELS,
    "tag": _LABEL_SETS,
    "extract": _FIELDS,
    "generate": ("chrf", *(name for name in _TEXTS if name != "chrf")),
    "summarise": ("rouge_l", *(name for name in _GROUNDED if name != "rouge_l")),
    "answer": ("rouge_l", *(name for name in _GROUNDED if name != "rouge_l")),
    "chat": ("chrf", *(name for name in _TEXTS if name != "chrf")),
}

# What a scorecard of a text kind shows beside the goal's metric.
SHOWN_METRICS: dict[Kind, tuple[str, ...]] = {
    "tag": ("jaccard", "subset_accuracy", "multilabel_micro_f1", "multilabel_macro_f1",
            "multilabel_weighted_f1", "hamming_loss"),
    "extract": ("field_f1", "field_f1_by_value", "exact_match", "schema_valid"),
    "generate": ("chrf", "bleu", "rouge_l", "length_ratio", "distinct_2", "repetition"),
    "summarise": ("rouge_1", "rouge_2", "rouge_l", "chrf", "length_ratio", "unsupported_words",
                  "unsupported_numbers"),
    "answer": ("rouge_l", "chrf", "exact_match", "length_ratio", "unsupported_words", "unsupported_numbers"),
    "chat": ("chrf", "bleu", "rouge_l", "length_ratio", "distinct_2", "repetition"),
}  # fmt: skip

SMALLER_IS_BETTER = frozenset(
    {"unsupported_words", "unsupported_numbers", "unsupported_names", "repetition"}
    | {"false_accept_rate", "false_reject_rate", "hamming_loss"}
)
# Means of one score a row; the others are functions of all rows together.
ROW_MEANS = frozenset(
    {"accuracy", "exact_match", "schema_valid", "rouge_1", "rouge_2", "rouge_l", "cider"}
    | {"unsupported_words", "unsupported_numbers", "unsupported_names", "repetition"}
    | {"jaccard", "row_f1", "subset_accuracy", "hamming_loss"}
)
_NOT_SHARES = frozenset({"cider", "length_ratio"})

TITLES = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "balanced_accuracy": "Balanced accuracy",
    "mcc": "MCC",
    "micro_f1": "Micro-F1",
    "weighted_f1": "Weighted F1",
    "jaccard": "Jaccard",
    "row_f1": "F1 by row",
    "subset_accuracy": "Subset accuracy",
    "multilabel_micro_f1": "Micro-F1",
    "multilabel_macro_f1": "Macro-F1",
    "multilabel_weighted_f1": "Weighted F1",
    "multilabel_micro_precision": "Micro-precision",
    "multilabel_micro_recall": "Micro-recall",
    "multilabel_macro_precision": "Macro-precision",
    "multilabel_macro_recall": "Macro-recall",
    "hamming_loss": "Hamming loss",
    "false_accept_rate": "False accepts",
    "false_reject_rate": "False rejects",
    "field_f1": "Field F1",
    "field_f1_by_value": "Field F1, values as read",
    "entity_f1": "Entity F1",
    "entity_f1_by_value": "Entity F1 by text",
    "exact_match": "Exact match",
    "schema_valid": "Schema valid",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "bleu_lowercase": "BLEU, lower case",
    "chrf": "chrF",
    "cider": "CIDEr",
    "length_ratio": "Length ratio",
    "distinct_2": "Distinct 2-grams",
    "repetition": "Repetition",
    "unsupported_words": "Unsupported words",
    "unsupported_numbers": "Unsupported numbers",
    "unsupported_names": "Unsupported names",
    "unentailed": "Statements not entailed",
    "ece": "Calibration error",
    "brier": "Brier score",
    "unparsed": "Answers that are no label",
}


def metric_title(metric: str) -> str:
    """A metric's name for people; a function of the user's own is called what the task calls it."""
    return TITLES.get(metric, metric.replace("_", " ") if ":" not in metric else metric)


def is_share(metric: str) -> bool:
    """Whether a metric lies between 0 and 1 (MCC: −1 and 1), so that people read it in per cent."""
    return metric not in _NOT_SHARES and ":" not in metric
