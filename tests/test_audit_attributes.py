"""Texts that leave out or change a value of their attributes are found, and faithful ones are not."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from audit_samples import audit_data, found_rows
from tunesmith.data.audit.attributes import check_attributes
from tunesmith.data.audit.findings import AuditData
from tunesmith.stats.alignment import aligned_shares

NAMES = ["Aurora", "Bibimbap", "Cotto", "Fitzbillies", "Zizzi"]
# How texts say a value: never in its own words alone, so that the association has to be learned.
SAID = {
    "area": {
        "riverside": ["by the river", "on the riverbank"],
        "city centre": ["downtown", "in the middle of town"],
    },
    "family": {"yes": ["welcoming children", "good for kids"], "no": ["for adults only", "not for children"]},
    "price": {
        "cheap": ["at low cost", "for little money"],
        "high": ["at an upmarket price", "for a lot of money"],
    },
}
OPENINGS = ["There is {name}", "You will find {name}", "{name} is a place", "Try {name}"]
WRITTEN: dict[str, Callable[[dict[str, str]], str]] = {
    "brackets": lambda given: ", ".join(f"{name}[{value}]" for name, value in given.items()),
    "json": json.dumps,
    "lines": lambda given: "\n".join(f"{name}: {value}" for name, value in given.items()),
}
ROWS = 400


def described(seed: int, form: str = "brackets", left_out: int = 0, changed: int = 0) -> AuditData:
    """Faithful rows, but the first ``left_out`` lack one value, and the next ``changed`` say another."""
    chance = random.Random(seed)
    pairs = []
    for number in range(ROWS):
        given = {"name": chance.choice(NAMES)}
        given |= {name: chance.choice(list(said)) for name, said in SAID.items()}
        wrong = chance.choice(list(SAID))
        parts = []
        for name, said in SAID.items():
            value = given[name]
            if name == wrong and number < left_out:
                continue
            if name == wrong and number < left_out + changed:
                value = next(other for other in said if other != value)
            parts.append(chance.choice(said[value]))
        chance.shuffle(parts)
        text = f"{chance.choice(OPENINGS).format(**given)}, {', '.join(parts)}."
        pairs.append((WRITTEN[form](given), text))
    return replace(audit_data(pairs), kind="generate")


@pytest.mark.parametrize("form", list(WRITTEN))
def test_values_left_out_and_changed_are_found(form: str) -> None:
    result = check_attributes(described(0, form, left_out=20, changed=20))
    assert result.answer == "failed"
    found = found_rows(result)
    assert len(found & set(range(40))) >= 38
    assert len(found - set(range(40))) <= 2
    assert len(found_rows(result, "another value said") & set(range(20, 40))) >= 18
    assert len(found_rows(result, "value not said") & set(range(20))) >= 18


def test_faithful_texts_have_no_findings() -> None:
    for seed in range(3):
        result = check_attributes(described(seed))
        assert (result.answer, result.findings) == ("passed", ())


def test_a_value_that_texts_seldom_say_is_no_rule() -> None:
    data = described(1)
    rows = [replace(row, messages=(replace(row.messages[0], content=f"{row.text}, id[r{n % 9}]"),))
            for n, row in enumerate(data.rows)]  # fmt: skip
    assert check_attributes(replace(data, rows=tuple(rows))).answer == "passed"


def test_other_inputs_and_other_kinds_are_unmeasured() -> None:
    data = described(2)
    assert check_attributes(replace(data, kind="classify")).answer == "unmeasured"
    assert (
        check_attributes(replace(data, rows=data.rows[:50], splits=data.splits[:50])).answer == "unmeasured"
    )
    prose = audit_data([(row.target, row.target) for row in data.rows])
    assert check_attributes(replace(prose, kind="generate")).answer == "unmeasured"


def test_of_values_that_stand_together_a_phrase_goes_to_the_one_that_explains_it() -> None:
    # Pair 1 is there only with pair 0; phrase 0 comes with pair 0, also without pair 1.
    pairs = csr_matrix(np.array([[1, 1]] * 10 + [[1, 0]] * 10 + [[0, 0]] * 10, float))
    phrases = csr_matrix(np.array([[1, 1, 1]] * 10 + [[1, 0, 1]] * 10 + [[0, 0, 1]] * 10, float))
    shares = aligned_shares(phrases, pairs)
    assert shares.shape == (2, 3)
    assert shares[0, 0] > 0.7 > shares[1, 0]
    assert shares[1, 1] > shares[0, 1]
    assert shares[:, 2].sum() < 0.6
