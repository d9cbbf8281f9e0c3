"""Claims about the probe set: sound items, and nothing but knowledge gives the answer away."""

import os
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest

from tunesmith.evaluation.probes import ProbeItem, probe_items, probes_sha256

ITEMS = probe_items()
DOMAINS = ("grammar", "facts", "arithmetic", "instructions")
NUMBER_WORDS = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
]


def of_domain(domain: str) -> list[ProbeItem]:
    return [item for item in ITEMS if item.domain == domain]


def test_there_are_a_thousand_probes_in_four_domains() -> None:
    assert len(ITEMS) >= 1000
    assert {item.domain for item in ITEMS} == set(DOMAINS)


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_domain_has_groups_enough_for_an_interval(domain: str) -> None:
    assert len(of_domain(domain)) >= 200
    assert len({item.group for item in of_domain(domain)}) >= 50


def test_no_probe_is_asked_twice() -> None:
    assert len({item.id for item in ITEMS}) == len(ITEMS)
    assert len({(item.prompt, frozenset(item.options)) for item in ITEMS}) == len(ITEMS)
    asked = Counter(item.prompt for item in ITEMS if item.domain != "grammar")
    assert [prompt for prompt, times in asked.items() if times > 1] == []


def test_a_group_never_spans_two_domains() -> None:
    assert len({(item.domain, item.group) for item in ITEMS}) == len({item.group for item in ITEMS})


def test_every_item_is_well_formed() -> None:
    for item in ITEMS:
        lengths = [len(option) for option in item.options]
        well_formed = (
            2 <= len(item.options) <= 3
            and len(set(item.options)) == len(item.options)
            and 0 <= item.right < len(item.options)
            and item.prompt == item.prompt.strip() != ""
            and all(option.strip() for option in item.options)
            and all(option.startswith(" ") != item.chat for option in item.options)
            and item.chat == (item.domain == "instructions")
            and not re.search(r"\||=>|\{\}|  ", item.prompt + "".join(item.options))
            and len(item.prompt) <= 110
            and max(lengths) - min(lengths) <= 14
        )
        assert well_formed, item


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_right_answer_stands_equally_often_in_every_place(domain: str) -> None:
    for size in (2, 3):
        places = Counter(item.right for item in of_domain(domain) if len(item.options) == size)
        if places:
            assert len(places) == size
            assert max(places.values()) - min(places.values()) <= 1


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("sign", [1, -1], ids=["shortest", "longest"])
def test_length_alone_does_not_answer(domain: str, sign: int) -> None:
    points, chance = 0.0, 0.0
    for item in of_domain(domain):
        lengths = [sign * len(option.encode()) for option in item.options]
        best = [index for index, length in enumerate(lengths) if length == min(lengths)]
        points += (item.right in best) / len(best)
        chance += 1 / len(item.options)
    assert points / chance < 1.3


def test_arithmetic_is_true() -> None:
    checked = Counter[str]()
    for item in of_domain("arithmetic"):
        right = item.options[item.right].strip()
        if match := re.fullmatch(r"(\d+) ([-+x]) (\d+) =", item.prompt):
            a, b = int(match[1]), int(match[3])
            truth = {"+": a + b, "-": a - b, "x": a * b}[match[2]]
            assert right == str(truth)
            checked[match[2]] += 1
        elif match := re.fullmatch(r"(\w+) plus (\w+) equals", item.prompt):
            summands = [NUMBER_WORDS.index(word.lower()) for word in match.groups()]
            assert right == NUMBER_WORDS[sum(summands)]
            checked["words"] += 1
        elif match := re.fullmatch(
            r"Of the two numbers (\d+) and (\d+), the (larger|smaller) one is", item.prompt
        ):
            choose = max if match[3] == "larger" else min
            assert right == str(choose(int(match[1]), int(match[2])))
            checked[match[3]] += 1
        else:
            numbers = [int(number) for number in item.prompt.rstrip(",").split(", ")]
            steps = {after - before for before, after in pairwise(numbers)}
            assert len(steps) == 1
            assert right == str(numbers[-1] + steps.pop())
            checked["sequence"] += 1
    assert set(checked) == {"+", "-", "x", "words", "larger", "smaller", "sequence"}


def test_another_process_makes_the_same_probes() -> None:
    script = "from tunesmith.evaluation.probes import *; print(probes_sha256(probe_items()))"
    other = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == probes_sha256(ITEMS)


def test_a_changed_item_changes_the_name_of_the_set() -> None:
    assert probes_sha256(ITEMS[1:]) != probes_sha256(ITEMS)
