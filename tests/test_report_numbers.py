"""Claims about how reports write numbers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.report import numbers


@given(st.floats(-1e6, 1e6), st.integers(0, 3))
def test_numbers_have_real_minus_signs_and_no_signed_zero(value: float, digits: int) -> None:
    text = numbers.number(value, digits)
    assert "-" not in text
    plain = float(text.replace("−", "-").replace(",", ""))
    assert abs(plain - value) <= 0.5 * 10**-digits + 1e-9
    assert plain != 0 or text[0] == "0"


@given(st.floats(0, 1e6))
def test_durations_never_show_sixty_of_a_unit(seconds: float) -> None:
    assert not re.search(r"\b60 (s|min)\b", numbers.duration(seconds))


def test_an_estimate_under_the_smallest_unit_is_not_about_it() -> None:
    assert numbers.about_duration(0.01) == "under 0.1 s"
    assert numbers.about_duration(61.0) == "about 1 min 01 s"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (9.58e-4, "0.000958"), (-6.684, "−6.68"), (1371.4, "1,371"), (0.0996, "0.0996")],
)
def test_prices_show_three_digits_and_no_exponent(value: float, shown: str) -> None:
    assert numbers.digits(value) == shown


def test_few_trained_parameters_are_counted_and_not_rounded_away() -> None:
    assert numbers.parameters(7_936) == "7,936"
    assert numbers.parameters(4_884_480) == "4.9 M"
