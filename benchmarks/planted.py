"""How many planted defects each check finds, and how many rows of the data as they are.

    python benchmarks/planted.py --data DATA/train.jsonl [--out benchmarks/results/planted.json]

The file holds one JSON object a line with ``text`` and ``label`` (BANKING77, for example). In 1 % of the
rows a defect is planted, one check after the other; found are rows of findings above a note. The same check
on the untouched rows is the control, though data of people is never quite clean. Label errors, disagreeing
attributes and near-duplicates have benchmarks of their own.
"""

from __future__ import annotations

import argparse
import json
import random
import string
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from stdnum import iban, luhn

from tunesmith.data.audit.checks import CHECKS
from tunesmith.data.audit.findings import AuditData
from tunesmith.data.duplicates import group_rows, with_groups
from tunesmith.files import write_json
from tunesmith.records import Message, Row
from tunesmith.stats.intervals import proportion_interval

SHARE = 0.01
ABOUT = "Name the intent of a customer's question to a bank about cards, accounts, transfers and top-ups."
FOOTER = "This message is confidential and meant for the person it is addressed to."
FOREIGN = (
    "Meine Karte ist seit {} Tagen nicht angekommen, was soll ich jetzt machen?",
    "Je n'ai toujours pas reçu les {} euros que mon frère m'a envoyés hier.",
    "¿Por qué me han cobrado {} euros de comisión por sacar dinero del cajero?",
    "Perché il mio bonifico di {} euro non è ancora arrivato sul conto?",
)
STRANGE = (
    "Plant the {} tomato seedlings outdoors once the nights stay above ten degrees.",
    "The goalkeeper saved {} penalties before halftime and the stadium went silent.",
    "Simmer the lentils with {} bay leaves, cumin and diced carrots until tender.",
    "The telescope photographed {} spiral galaxies behind the nebula last winter.",
)

Plant = Callable[[random.Random, Row], Row]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with arguments.data.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    rows = [
        Row(
            f"{line:06}", f"{arguments.data.name}:{line}", (Message("user", record["text"]),), record["label"]
        )
        for line, record in enumerate(records, start=1)
    ]
    rows = list(with_groups(rows, group_rows(rows)))
    runs = [_planted_run(rows, check, plant) for check, plant in PLANTS.items()]
    runs.append(_benchmark_run(rows))
    if arguments.out:
        write_json(arguments.out, {"data": arguments.data.name, "rows": len(rows), "runs": runs})


def _planted_run(rows: list[Row], check: str, plant: Plant) -> dict[str, Any]:
    chance = random.Random(check)
    chosen = sorted(chance.sample(range(len(rows)), round(SHARE * len(rows))))
    spoiled = list(rows)
    for index in chosen:
        spoiled[index] = plant(chance, rows[index])
    if check == "duplicates":  # what is planted are rows beside those that are there
        chosen = list(range(len(rows), len(rows) + len(chosen)))
        spoiled = [*rows, *(row for row, old in zip(spoiled, rows, strict=True) if row is not old)]
        spoiled = list(with_groups(spoiled, group_rows(spoiled)))
    found = _found(check, AuditData(tuple(spoiled), (None,) * len(spoiled), description=ABOUT))
    return _result(rows, check, [index in found for index in chosen])


def _benchmark_run(rows: list[Row]) -> dict[str, Any]:
    leaked = [replace(row, group="") for row in rows[:: round(1 / SHARE)]]
    data = AuditData(tuple(rows), (None,) * len(rows), benchmarks={"benchmark": tuple(leaked)})
    found = {row for one in CHECKS["leaks"](data).findings if "benchmark" in one.kind for row in one.rows}
    return _result(rows, "leaks", [index in found for index in range(0, len(rows), round(1 / SHARE))])


def _found(check: str, data: AuditData) -> set[int]:
    findings = CHECKS[check](data).findings
    return {
        row
        for finding in findings
        if finding.severity != "note" or check == "relevance"
        for row in finding.rows
    }


def _result(rows: list[Row], check: str, hits: list[bool]) -> dict[str, Any]:
    own = _found(check, AuditData(tuple(rows), (None,) * len(rows), description=ABOUT))
    found = proportion_interval(hits, [str(place) for place in range(len(hits))])
    untouched = proportion_interval([index in own for index in range(len(rows))], [row.group for row in rows])
    print(
        f"{check:<20}{sum(hits)} of {len(hits)} planted found; of the untouched rows {untouched.value:.2%} "
        f"[{untouched.low:.2%}, {untouched.high:.2%}]"
    )
    return {"check": check, "found": asdict(found), "untouched": asdict(untouched)}


def _with_text(row: Row, text: str) -> Row:
    return replace(row, messages=(Message("user", text),))


def _inserted(chance: random.Random, row: Row, part: str) -> Row:
    words = row.text.split(" ")
    place = chance.randrange(len(words) + 1)
    return _with_text(row, " ".join([*words[:place], part, *words[place:]]))


def _digits(chance: random.Random, number: int) -> str:
    return "".join(chance.choices(string.digits, k=number))


def _private(chance: random.Random, row: Row) -> Row:
    name, number = "".join(chance.choices(string.ascii_lowercase, k=7)), _digits(chance, 6)
    card, account = f"4{_digits(chance, 14)}", f"37040044{_digits(chance, 10)}"
    value = chance.choice(
        [
            f"{name}.{number}@{chance.choice(['example.com', 'mail.example.org'])}",
            f"+44 20 7946 0{_digits(chance, 3)}",
            f"(212) 555-0{_digits(chance, 3)}",
            f"{card}{luhn.calc_check_digit(card)}",
            f"DE{iban.calc_check_digits(f'DE00{account}')}{account}",
            f"81.2.{chance.randrange(1, 255)}.{chance.randrange(1, 255)}",
        ]
    )
    return _inserted(chance, row, value)


def _secret(chance: random.Random, row: Row) -> Row:
    letters = "".join(chance.choices(string.ascii_letters + string.digits, k=40))
    value = chance.choice(
        [
            f"AKIA{letters[:16].upper()}",
            f"ghp_{letters[:36]}",
            f"sk-proj-{letters}",
            f"password: {letters[:12]}!7",
            f"api_key={letters[:32]}",
        ]
    )
    return _inserted(chance, row, value)


def _mojibake(chance: random.Random, row: Row) -> Row:
    word = chance.choice(["don’t", "café", "„Karte“", "£20", "naïve", "Zürich"])
    return _inserted(chance, row, word.encode().decode("cp1252"))


def _html(chance: random.Random, row: Row) -> Row:
    forms = ["<p>{}</p>", "{}<br/>", "<b>{}</b>", "{}&nbsp;&amp; more", '<a href="x">{}</a>']
    return _with_text(row, chance.choice(forms).format(row.text))


def _cut(chance: random.Random, row: Row) -> Row:
    return _with_text(row, row.text[: max(20, round(len(row.text) * chance.uniform(0.5, 0.9)))])


def _copied(chance: random.Random, row: Row) -> Row:
    number = chance.randrange(10**9)
    text = chance.choice([row.text, row.text.upper(), f" {row.text}!"])
    return replace(_with_text(row, text), id=f"planted-{number}", source=f"planted:{number}", group="")


def _respelled(chance: random.Random, row: Row) -> Row:
    forms = [row.target.upper(), row.target.replace("_", " "), f"{row.target} ", f'"{row.target}"']
    return replace(row, target=chance.choice([form for form in forms if form != row.target]))


PLANTS: dict[str, Plant] = {
    "private data": _private,
    "secrets": _secret,
    "empty fields": lambda chance, row: _with_text(row, chance.choice(["N/A", "null", "NaN", "-", "TODO"])),
    "encoding": _mojibake,
    "control characters": lambda chance, row: _inserted(
        chance, row, chance.choice(["\u200b", "\x07", "\ufeff", "\u202e", "\x85"])
    ),
    "HTML": _html,
    "boilerplate": lambda chance, row: _with_text(row, f"{row.text}\n{FOOTER}"),
    "truncation": _cut,
    "output shapes": lambda chance, row: replace(
        row, target=f"{chance.choice(['Answer', 'Label'])}: {row.target}"
    ),
    "templates": lambda chance, row: _inserted(
        chance, row, chance.choice(["{customer_name}", "[INSERT DATE]", "{{ iban }}"])
    ),
    "label spelling": _respelled,
    "duplicates": _copied,
    "relevance": lambda chance, row: _with_text(row, chance.choice(STRANGE).format(_digits(chance, 2))),
    "language": lambda chance, row: _with_text(row, chance.choice(FOREIGN).format(_digits(chance, 2))),
}


if __name__ == "__main__":
    main()
