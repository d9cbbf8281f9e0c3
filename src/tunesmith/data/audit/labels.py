"""Likely label errors: confident learning over cross-validated predictions, and how many to expect."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith.data.audit.classifier import FOLDS, CrossValidated, cross_validate, group_folds, text_features
from tunesmith.data.audit.findings import AuditData, CheckResult, Finding
from tunesmith.data.audit.sampling import sample_rows, sample_told
from tunesmith.records import Answer, Estimate
from tunesmith.stats.intervals import proportion_interval
from tunesmith.stats.mixture import largest_share

CHECK = "labels"
MOST_ROWS = 50_000
MINIMUM_ROWS = 100
MINIMUM_GROUPS = 3  # of a label: with fewer no fold has seen it when it is asked for
LABELLED_SHARE = 0.5  # of the rows must have such labels, else the targets are free text
SURE = 0.9  # expected share of errors up to which the list calls its rows likely errors
AGREES_ABOVE = 0.5  # share of labels that the classifier must surely predict to judge the others
FAILS_ABOVE = 0.005  # share of wrong labels that is surely exceeded
PASSES_BELOW = 0.02  # share of wrong labels that is surely not reached


@dataclass(frozen=True)
class LabelErrors:
    """Suspected label errors, the most suspicious first; ``rows`` index into the data.

    ``preferred`` is the label that the held-out predictions prefer for each. ``expected_errors[k]`` is how
    many of the first k + 1 are expected to be wrong, if the wrong labels of the data were drawn at random.
    ``wrong`` is the share of all labels looked at that can be such; ``there`` whether it is more than a
    bound (see :func:`largest_share`). ``tested`` rows are among those listed, not among those looked at.
    """

    rows: tuple[int, ...]
    preferred: tuple[str, ...]
    expected_errors: tuple[float, ...]
    wrong: Estimate
    there: bool
    right: Estimate
    looked_at: int
    tested: int
    left_out: int
    sampled_rows: int | None


def find_label_errors(data: AuditData, most_rows: int = MOST_ROWS) -> LabelErrors | str:
    """Rank the rows whose label the other rows speak against; or a sentence why that cannot be done.

    Rows are flagged by confident learning (Northcutt et al. 2021; cleanlab) and ranked by the held-out
    probability of their own label. Held-out predictions never saw a row of the same group, so a label drawn
    at random would score like the probabilities of the labels that rows do *not* carry. That distribution,
    known from the data, tells how many of the lowest scores random wrong labels can account for. Wrong labels
    that are plausible (two classes that people confuse) cannot be told from hard rows and are not counted.

    Rows that will be tested on are ranked too, but teach nothing: what is said of the others, and how many
    wrong labels there are, is the same whatever their labels.
    """
    sampled = sample_rows(data.rows, most_rows)
    groups_of_label: defaultdict[str, set[str]] = defaultdict(set)
    for index in sampled:
        row = data.rows[index]
        if index not in data.tested:
            groups_of_label[row.target].add(row.group or str(index))
    common = {label for label, groups in groups_of_label.items() if len(groups) >= MINIMUM_GROUPS}
    kept = [index for index in sampled if data.rows[index].target in common]
    tested = np.array([index in data.tested for index in kept], dtype=bool)
    looked_at = len(kept) - int(tested.sum())
    others = sum(index not in data.tested for index in sampled)
    if looked_at < LABELLED_SHARE * others:
        return (
            f"the targets are no labels: only {looked_at:,} of {others:,} rows have one that occurs in "
            f"{MINIMUM_GROUPS} groups or more"
        )
    if len(common) < 2 or looked_at < MINIMUM_ROWS:
        return (
            f"needs {MINIMUM_ROWS} rows and 2 labels that occur in {MINIMUM_GROUPS} groups or more; found "
            f"{looked_at:,} rows and {len(common)} such labels"
        )
    vectors = text_features([data.rows[index] for index in kept])
    if vectors is None:
        return f"the inputs of {len(kept):,} rows hold no words and no characters in common"
    groups = [data.rows[index].group or str(index) for index in kept]
    targets = [data.rows[index].target for index in kept]
    fold = np.zeros(len(kept), dtype=np.intp)
    for chosen in (~tested, tested):
        places = np.flatnonzero(chosen)
        fold[places] = group_folds([groups[at] for at in places], [targets[at] for at in places], FOLDS)
    held_out = cross_validate(vectors, targets, groups, tested, fold)
    # Once more without the worst suspects, which taught the first models some of their wrong labels.
    suspicious = held_out.of_target < min(0.05, 0.5 / len(common))
    held_out = cross_validate(vectors, targets, groups, tested | suspicious, fold)
    own = held_out.of_target
    order = np.concatenate([_suspects(held_out, np.flatnonzero(chosen)) for chosen in (~tested, tested)])
    order = order[np.argsort(own[order], kind="stable")]
    scores, other_scores = np.sort(own[~tested]), np.sort(_others(held_out, ~tested))
    wrong, there = largest_share(scores, other_scores)
    # Of all rows that score as low as each suspect, flagged or not, the share that wrong labels account for.
    errors = (
        wrong.value * looked_at * np.searchsorted(other_scores, own[order], side="right") / len(other_scores)
    )
    as_low = np.maximum(1, np.searchsorted(scores, own[order], side="right"))
    precision = np.minimum(1.0, errors / as_low)
    return LabelErrors(
        rows=tuple(kept[index] for index in order),
        preferred=tuple(held_out.labels[label] for label in held_out.probabilities[order].argmax(axis=1)),
        expected_errors=tuple((precision * np.arange(1, len(order) + 1)).tolist()),
        wrong=wrong,
        there=there,
        right=proportion_interval(
            held_out.right[~tested], [groups[place] for place in np.flatnonzero(~tested)]
        ),
        looked_at=looked_at,
        tested=len(kept) - looked_at,
        left_out=len(sampled) - len(kept),
        sampled_rows=len(sampled) if len(sampled) < len(data.rows) else None,
    )


def check_labels(data: AuditData, most_rows: int = MOST_ROWS) -> CheckResult:
    """Failed when surely more than 0.5 % of the labels are wrong, passed when surely fewer than 2 % are.

    Between the two it is unmeasured, and so is data whose targets are not labels.
    """
    found = find_label_errors(data, most_rows)
    if isinstance(found, str):
        return CheckResult(CHECK, "unmeasured", found)
    answer: Answer = "unmeasured"
    if found.right.low < AGREES_ABOVE:
        pass  # a classifier that disputes most rows is no judge of them
    elif found.there and found.wrong.low > FAILS_ABOVE:
        answer = "failed"
    elif found.wrong.high <= PASSES_BELOW:
        answer = "passed"
    likely = _likely(found) if answer == "failed" else 0
    findings = []
    if likely:
        findings.append(_finding(found, 0, likely, "likely label errors"))
    if len(found.rows) > likely:
        findings.append(_finding(found, likely, len(found.rows), "possible label errors"))
    told = _summary(found, answer) + sample_told(found.sampled_rows or len(data.rows), len(data.rows))
    return CheckResult(CHECK, answer, told, tuple(findings), found.sampled_rows)


def _suspects(held_out: CrossValidated, places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Those of the rows at ``places`` that speak against their label, judged by each other."""
    from cleanlab.filter import find_label_issues

    if not len(places):
        return places
    ranked: npt.NDArray[np.intp] = find_label_issues(
        held_out.targets[places],
        held_out.probabilities[places],
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    return places[ranked]


def _others(held_out: CrossValidated, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The probabilities of all labels that rows do not carry: what a label drawn at random would get."""
    others = np.repeat(chosen[:, np.newaxis], len(held_out.labels), axis=1)
    others[np.arange(len(held_out.targets)), held_out.targets] = False
    scores: npt.NDArray[np.float64] = held_out.probabilities[others]
    return scores


def _likely(found: LabelErrors) -> int:
    expected = np.array(found.expected_errors)
    sure = np.flatnonzero(expected >= SURE * np.arange(1, len(expected) + 1))
    return int(sure[-1]) + 1 if len(sure) else 0


def _finding(found: LabelErrors, start: int, end: int, kind: str) -> Finding:
    before = found.expected_errors[start - 1] if start else 0.0
    expected = max(0.0, found.expected_errors[end - 1] - before)
    likely = kind.startswith("likely")
    bound = "about" if likely else "at most"
    if not likely and found.wrong.value > 0:
        expected *= found.wrong.high / found.wrong.value
    elif not likely:
        expected = found.wrong.high * found.looked_at
    evidence = (
        f"held-out predictions speak against the label of {end - start:,} rows; {bound} "
        f"{min(expected, end - start):,.0f} of them are expected to be wrong at random"
    )
    return Finding(
        kind,
        "error" if likely else "note",
        found.rows[start:end],
        evidence if likely else evidence + "; the rest are hard or ambiguous rows",
        "set_aside" if likely else "ask",
        "target",
        found.preferred[start:end],
    )


def _summary(found: LabelErrors, answer: Answer) -> str:
    wrong, right = found.wrong, found.right
    classifier = (
        f"a held-out classifier agrees with {right.value:.1%} [{right.low:.1%}, {right.high:.1%}] of "
        f"{found.looked_at:,} labels"
    )
    if answer == "failed":
        told = f"about {wrong.value:.1%} [{wrong.low:.1%}, {wrong.high:.1%}] of them are wrong"
    elif answer == "passed":
        hard = max(0.0, len(found.rows) - wrong.high * found.looked_at)
        told = (
            f"at most {wrong.high:.2%} are wrong at random: of the {len(found.rows):,} that it disputes, at "
            f"least {hard:,.0f} are hard or ambiguous rows, not such errors"
        )
    else:
        told = (
            f"up to {wrong.high:.1%} could be wrong: it cannot tell errors from hard rows well enough to say"
        )
    left_out = f"; {found.left_out:,} rows of rare labels not looked at" if found.left_out else ""
    tested = f"; it judged {found.tested:,} test rows and learned from none" if found.tested else ""
    return f"{classifier}; {told}{left_out}{tested}"
