"""Clean made-up rows for the audit's tests, and what share of planted rows a check finds."""

import random
from collections.abc import Sequence

from tunesmith.data.audit.findings import AuditData, CheckResult
from tunesmith.records import Message, Row

PLACES = [
    "supermarket",
    "petrol station",
    "airport",
    "hotel",
    "bakery",
    "museum",
    "garage",
    "cinema",
    "pharmacy",
]
THINGS = [
    "card",
    "transfer",
    "account",
    "payment",
    "refund",
    "statement",
    "password",
    "limit",
    "top-up",
    "fee",
]
TIMES = ["yesterday", "this morning", "last week", "on Monday", "two days ago", "in March", "an hour ago"]
VERBS = ["was declined", "did not arrive", "shows a wrong amount", "is still pending", "was charged twice"]
OPENINGS = ["My", "Hello, my", "I think my", "Since we spoke my", "Sorry, but the", "The", "Our", "Help, my"]
LABELS = ["declined", "missing", "wrong_amount", "pending", "charged_twice"]


def texts(rows: int, seed: int = 0) -> list[tuple[str, str]]:
    """Pairs of input and label; inputs are all different."""
    chance = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < rows:
        verb = chance.randrange(len(VERBS))
        text = (
            f"{chance.choice(OPENINGS)} {chance.choice(THINGS)} at the {chance.choice(PLACES)} {VERBS[verb]} "
            f"{chance.choice(TIMES)}, after about {chance.randint(2, 90)} minutes. I was at the "
            f"{chance.choice(PLACES)} with the {chance.choice(THINGS)} {chance.choice(TIMES)}."
        )
        found[text] = LABELS[verb]
    return list(found.items())


def audit_data(pairs: Sequence[tuple[str, str]], **fields: Sequence[str | None]) -> AuditData:
    rows = tuple(
        Row(f"id{number}", f"data.jsonl:{number}", (Message("user", text),), target)
        for number, (text, target) in enumerate(pairs, start=1)
    )
    return AuditData(rows, (None,) * len(rows), {name: tuple(values) for name, values in fields.items()})


def clean(rows: int = 400, seed: int = 0) -> AuditData:
    return audit_data(texts(rows, seed))


def found_rows(result: CheckResult, kind: str | None = None) -> set[int]:
    return {
        row
        for finding in result.findings
        if finding.severity != "note" and (kind is None or finding.kind == kind)
        for row in finding.rows
    }


def precision_and_recall(
    result: CheckResult, planted: set[int], kind: str | None = None
) -> tuple[float, float]:
    found = found_rows(result, kind)
    return len(found & planted) / max(1, len(found)), len(found & planted) / len(planted)
