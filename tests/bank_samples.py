"""Made-up bank questions with labels that their words tell, for the audit's tests."""

from __future__ import annotations

import random

from tunesmith.data.audit.findings import AuditData
from tunesmith.records import Message, Row

TOPICS = {
    topic: words.split()
    for topic, words in {
        "card lost": "card lost missing wallet stolen replace plastic",
        "transfer": "transfer send recipient iban wire arrived",
        "exchange": "exchange rate currency euro dollars convert",
        "top up": "topped balance add funds deposit cheque",
        "identity": "identity passport verify document selfie proof",
        "fees": "fee charged statement cost twice refund",
    }.items()
}
_FILLERS = "please today yesterday still again really the my a for why how can you when is it on app"
FILLERS = _FILLERS.split(" ")


def question(chance: random.Random, topic: str, fillers: int = 7) -> str:
    words = chance.choices(FILLERS, k=fillers) + chance.sample(TOPICS[topic], k=3)
    chance.shuffle(words)
    return " ".join([*words, str(chance.randrange(10**6))])


def questions(rows: int, seed: int = 0) -> list[Row]:
    """Rows with one group each; every label is right."""
    chance = random.Random(seed)
    made = []
    for number in range(rows):
        topic = list(TOPICS)[number % len(TOPICS)]
        text = question(chance, topic)
        made.append(
            Row(f"id{number}", f"bank.jsonl:{number + 1}", (Message("user", text),), topic, f"group{number}")
        )
    return made


def audit_data(rows: list[Row], **fields: tuple[str | None, ...]) -> AuditData:
    return AuditData(tuple(rows), (None,) * len(rows), fields)
