"""Every check of the audit, in the order in which they are run and shown."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from tunesmith.data.audit.agreement import check_agreement
from tunesmith.data.audit.attributes import check_attributes
from tunesmith.data.audit.bias import BiasSettings, check_group_words, check_label_rates
from tunesmith.data.audit.boilerplate import check_boilerplate, check_truncation
from tunesmith.data.audit.characters import check_control_characters, check_encoding, check_html
from tunesmith.data.audit.diversity import check_diversity
from tunesmith.data.audit.duplicates import check_duplicates
from tunesmith.data.audit.findings import AuditData, CheckResult
from tunesmith.data.audit.formats import check_empty_fields, check_lengths, check_turns, check_unusable
from tunesmith.data.audit.label_spelling import check_label_spelling
from tunesmith.data.audit.labels import check_labels
from tunesmith.data.audit.leaks import check_leaks
from tunesmith.data.audit.names import check_person_names
from tunesmith.data.audit.privacy import PrivacySettings, check_private_data, check_secrets
from tunesmith.data.audit.relevance import TaskText, check_domains, check_language, check_relevance
from tunesmith.data.audit.shapes import check_output_shapes, check_templates
from tunesmith.data.audit.size import check_size
from tunesmith.data.audit.staleness import StalenessSettings, check_age, check_label_drift
from tunesmith.task.kinds import SEVERAL_REFERENCES


def _relevance(data: AuditData) -> CheckResult:
    return check_relevance(data, TaskText(data.asked.examples or (), data.description))


def _privacy(data: AuditData) -> PrivacySettings:
    return PrivacySettings(data.asked.phone_regions)


def _staleness(data: AuditData) -> StalenessSettings:
    asked = data.asked
    return StalenessSettings(asked.dates, _day(asked.oldest), _day(asked.newest))


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)


# Of two repairs of one text the first is applied: privacy goes before looks.
CHECKS: dict[str, Callable[[AuditData], CheckResult]] = {
    "private data": lambda data: check_private_data(data, _privacy(data)),
    "secrets": lambda data: check_secrets(data, _privacy(data)),
    "unusable rows": check_unusable,
    "empty fields": check_empty_fields,
    "turns": check_turns,
    "encoding": check_encoding,
    "control characters": check_control_characters,
    "HTML": check_html,
    "boilerplate": check_boilerplate,
    "truncation": check_truncation,
    "lengths": check_lengths,
    "output shapes": check_output_shapes,
    "templates": check_templates,
    "label spelling": check_label_spelling,
    "duplicates": check_duplicates,
    "attributes": check_attributes,
    "leaks": check_leaks,
    "labels": check_labels,
    "agreement": check_agreement,
    "names of people": check_person_names,
    "relevance": _relevance,
    "domains": lambda data: check_domains(data, data.asked.domain),
    "language": lambda data: check_language(data, data.asked.languages or ()),
    "label rates": lambda data: check_label_rates(data, BiasSettings(data.asked.groups or ())),
    "group words": check_group_words,
    "age": lambda data: check_age(data, _staleness(data)),
    "label drift": lambda data: check_label_drift(data, _staleness(data)),
    "diversity": check_diversity,
    "size": check_size,
}


# What each of these measures is a property of labels.
_OF_LABELS = {
    "label spelling": "spellings of one label",
    "labels": "labels that a classifier disputes",
    "label rates": "rates of labels between groups",
    "label drift": "rates of labels over time",
    "size": "the learning curve of a classifier",
}
# Two people never write the same text, so equal answers are no measure of agreement.
_OF_EXACT_ANSWERS = {"agreement": "annotators who give exactly the same answer"}


def run_check(name: str, data: AuditData) -> tuple[CheckResult, bool]:
    """One check's answer, and whether it ended by itself; a crash is *unmeasured*, with its error named.

    What is a property of a row's one label is not asked of other kinds of task: *unmeasured*, and why.
    """
    if data.kind != "classify" and name in _OF_LABELS:
        why = "where a row has any number of labels" if data.kind == "tag" else "which has no labels"
        told = f"not asked of kind: {data.kind}, {why}: {_OF_LABELS[name]}"
        return CheckResult(name, "unmeasured", told), True
    if data.kind in SEVERAL_REFERENCES and name in _OF_EXACT_ANSWERS:
        told = f"not asked of kind: {data.kind}, where right answers differ: {_OF_EXACT_ANSWERS[name]}"
        return CheckResult(name, "unmeasured", told), True
    try:
        return CHECKS[name](data), True
    except Exception as error:  # whatever goes wrong in one check must not keep the others from answering
        where = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return CheckResult(name, "unmeasured", f"this check broke down ({where})"), False
