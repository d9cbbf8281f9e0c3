"""Every check of the audit, in the order in which they are run and shown."""

from __future__ import annotations

from collections.abc import Callable

from tunesmith.data.audit.agreement import check_agreement
from tunesmith.data.audit.diversity import check_diversity
from tunesmith.data.audit.duplicates import check_duplicates
from tunesmith.data.audit.findings import AuditData, CheckResult
from tunesmith.data.audit.labels import check_labels
from tunesmith.data.audit.leaks import check_leaks
from tunesmith.data.audit.size import check_size

CHECKS: dict[str, Callable[[AuditData], CheckResult]] = {
    "duplicates": check_duplicates,
    "leaks": check_leaks,
    "labels": check_labels,
    "agreement": check_agreement,
    "diversity": check_diversity,
    "size": check_size,
}


def run_check(name: str, data: AuditData) -> tuple[CheckResult, bool]:
    """One check's answer, and whether it ended by itself; a crash is *unmeasured*, with its error named."""
    try:
        return CHECKS[name](data), True
    except Exception as error:  # whatever goes wrong in one check must not keep the others from answering
        where = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return CheckResult(name, "unmeasured", f"this check broke down ({where})"), False
