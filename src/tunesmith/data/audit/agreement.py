"""Several annotators: how far they agree, and which labels their consensus speaks against."""

from __future__ import annotations

from collections import defaultdict

from tunesmith.data.audit.findings import AuditData, CheckResult, Finding, answered
from tunesmith.data.duplicates import compared_text, words
from tunesmith.stats.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha
from tunesmith.stats.consensus import dawid_skene

CHECK = "agreement"
ANNOTATOR_COLUMNS = ("annotator", "annotator_id", "rater", "worker", "worker_id", "labeler", "coder")
MINIMUM_ITEMS = 20
# Krippendorff (2004, p. 241): below 0.667 not even tentative conclusions.
TENTATIVE_ALPHA = 0.667
POOR_ACCURACY = 0.6

# By annotator: the row, and the label given.
Given = dict[str, tuple[int, str]]


def check_agreement(data: AuditData) -> CheckResult:
    """Agreement of annotators on the inputs that several of them labelled.

    Either rows carry the answers of several annotators (exports of Label Studio and Prodigy), or the data has
    one row per annotation and a column with the annotator (``annotator``, ``rater``, ``worker``, …).
    Unmeasured without both, or with fewer than 20 inputs labelled twice.
    """
    exported = any(row.annotations for row in data.rows)
    column = next((name for name in data.fields if name.lower() in ANNOTATOR_COLUMNS), None)
    if column is None and not exported:
        return CheckResult(
            CHECK, "unmeasured", f"no column names the annotators ({', '.join(ANNOTATOR_COLUMNS)})"
        )
    several = _exported(data) if exported or column is None else _by_column(data, column)
    if len(several) < MINIMUM_ITEMS:
        return CheckResult(
            CHECK,
            "unmeasured",
            f"only {len(several)} inputs were labelled by two annotators or more (needs {MINIMUM_ITEMS})",
        )
    labelled = [[label for _, label in given.values()] for given in several]
    alpha = krippendorff_alpha(labelled)
    if alpha is None:
        return CheckResult(CHECK, "unmeasured", "all annotators gave one and the same label to everything")
    findings: list[Finding] = []
    labels = sum(len(given) for given in several)
    everyone = tuple(sorted({index for given in several for index, _ in given.values()}))
    if alpha.low < TENTATIVE_ALPHA:
        findings.append(
            Finding(
                "annotators disagree",
                "error" if alpha.high < TENTATIVE_ALPHA else "warning",
                everyone,
                f"Krippendorff's alpha {alpha.value:.2f} [{alpha.low:.2f}, {alpha.high:.2f}] over "
                f"{alpha.groups:,} inputs is not surely above {TENTATIVE_ALPHA}: settle what the labels mean",
                "keep",
            )
        )
    annotations = [
        (item, annotator, label)
        for item, given in enumerate(several)
        for annotator, (_, label) in given.items()
    ]
    consensus = dawid_skene(annotations, len(several))
    against = [
        (index, answer, float(probabilities.max()))
        for given, answer, probabilities in zip(
            several, consensus.answers(), consensus.probabilities, strict=True
        )
        for index in {index for index, _ in given.values()}
        if data.rows[index].target != answer
    ]
    against.sort(key=lambda found: (-found[2], found[0]))
    if against:
        findings.append(
            Finding(
                "against the consensus",
                "warning",
                tuple(index for index, _, _ in against),
                f"the targets of {len(against):,} of {len(everyone):,} rows differ from what the annotators "
                f"together say (Dawid-Skene over {labels:,} labels)",
                "fix",
                "target",
                tuple(answer for _, answer, _ in against),
            )
        )
    accuracy = consensus.accuracy()
    for annotator in sorted(name for name, share in accuracy.items() if share < POOR_ACCURACY):
        rows = tuple(given[annotator][0] for given in several if annotator in given)
        findings.append(
            Finding(
                f"annotator {annotator} is unreliable",
                "warning",
                rows,
                f"estimated accuracy {accuracy[annotator]:.0%} over {len(rows):,} labels",
                "ask",
            )
        )
    told = f"Krippendorff's alpha {alpha.value:.2f} [{alpha.low:.2f}, {alpha.high:.2f}]"
    if exported:
        # Rows without a majority are set aside when the export is read, and these agreed least.
        told += "; rows whose annotators tied were set aside before, so this is an upper limit"
    return answered(CHECK, f"{_kappas(several, labelled)}; {told}", findings)


def _by_column(data: AuditData, column: str) -> list[Given]:
    """Inputs that stand in several rows, each by another annotator."""
    items: defaultdict[tuple[str, ...], Given] = defaultdict(dict)
    for index, (row, annotator) in enumerate(zip(data.rows, data.fields[column], strict=True)):
        if annotator:
            items[words(compared_text(row))][annotator] = (index, row.target)
    return [given for given in items.values() if len(given) > 1]


def _exported(data: AuditData) -> list[Given]:
    """Rows that several annotators answered."""
    several = [
        {annotator: (index, label) for annotator, label in row.annotations}
        for index, row in enumerate(data.rows)
    ]
    return [given for given in several if len(given) > 1]


def _kappas(several: list[Given], labelled: list[list[str]]) -> str:
    annotators = sorted({name for given in several for name in given})
    told = f"{len(annotators)} annotators, {len(several):,} inputs labelled more than once"
    if len(annotators) == 2:
        first, second = annotators
        pairs = [(given[first][1], given[second][1]) for given in several]
        kappa = cohen_kappa([one for one, _ in pairs], [other for _, other in pairs])
        return told + (f"; Cohen's kappa {kappa:.2f}" if kappa is not None else "")
    if len({len(labels) for labels in labelled}) == 1:
        kappa = fleiss_kappa(labelled)
        return told + (f"; Fleiss' kappa {kappa:.2f}" if kappa is not None else "")
    return told
