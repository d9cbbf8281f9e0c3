"""Personal data and secrets are found by their checksums and prefixes, and nothing found survives redaction.

Every value here is made up or reserved for examples; keys are put together so that no scanner takes them for
real ones.
"""

import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_samples import audit_data, clean, found_rows, precision_and_recall, texts
from tunesmith.data.audit.privacy import (
    all_spans,
    check_private_data,
    check_secrets,
    private_spans,
    redact,
)
from tunesmith.data.audit.spans import Placeholders

EMAILS = ["jo.smith@mail.co.uk", "anna+bank@example.org", "x_1@sub.domain.io"]
PHONES = ["+44 20 7946 0958", "+49 30 901820", "(212) 736-5000", "+1 650-253-0000"]
CARDS = ["4111 1111 1111 1111", "5555555555554444", "3782 822463 10005", "6011-1111-1111-1117"]
IBANS = ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "FR1420041010050500013M02606"]
IPS = ["81.2.69.142", "2001:db8:85a3::8a2e:370:7334", "192.168.17.4"]
IDS = [
    "my SSN is 536-90-4399",
    "codice fiscale RSSMRA85T10A562S",
    "Steuer-ID 36 574 261 809",
    "NHS number 943 476 5870",
    "PESEL 44051401359",
    "DNI 54362315-K",
    "CPF 390.533.447-05",
]


def random_key(length: int, seed: int) -> str:
    chance = random.Random(seed)
    return "".join(chance.choices(string.ascii_letters + string.digits, k=length)) + "7"


SECRETS = [
    "AK" + "IA" + "Q3EGRDXT5LKZ7YWB",
    "AK" + "IA" + "QWERTZUIOPASDFGH",
    "gh" + "p_" + random_key(35, 1),
    "sk" + "-proj-" + random_key(40, 2),
    "hf" + "_" + random_key(33, 3),
    "xo" + "xb-2345678901-" + random_key(20, 4),
    "password: " + "Winter2024x",
    "api_key=" + random_key(31, 5),
    "postgres://app:" + "s3cr3tpw" + "@db.internal/main",
]
KINDS = [
    ("EMAIL", EMAILS, "e-mail addresses"),
    ("PHONE", PHONES, "phone numbers"),
    ("CARD", CARDS, "card numbers (Luhn)"),
    ("IBAN", IBANS, "IBANs (mod 97)"),
    ("IP", IPS, "IP addresses"),
    ("NATIONAL_ID", IDS, "national identity numbers"),
]


@pytest.mark.parametrize(("kind", "values", "name"), KINDS)
def test_planted_values_are_found_and_nothing_else(kind: str, values: list[str], name: str) -> None:
    pairs = texts(300)
    planted = set(range(0, 300, 12))
    dirty = [
        (f"{text} {values[n % len(values)]}." if n in planted else text, x)
        for n, (text, x) in enumerate(pairs)
    ]
    result = check_private_data(audit_data(dirty))
    assert precision_and_recall(result, planted) == (1.0, 1.0)
    (finding,) = result.findings
    assert finding.kind == name
    assert all(value not in finding.evidence for value in values)  # counts, never values
    assert all(f"[{kind}_" in text for text in finding.fixed or ())


def test_planted_secrets_are_found_and_nothing_else() -> None:
    pairs = texts(300)
    planted = set(range(0, 300, 12))
    dirty = [
        (f"{text} {SECRETS[n // 12 % len(SECRETS)]} thanks" if n in planted else text, x)
        for n, (text, x) in enumerate(pairs)
    ]
    result = check_secrets(audit_data(dirty))
    assert precision_and_recall(result, planted) == (1.0, 1.0)
    assert {finding.severity for finding in result.findings} == {"error"}


def test_a_private_key_block_is_one_secret() -> None:
    block = "-----BEGIN " + "RSA PRIVATE KEY-----\nMIIEow\nabc=\n-----END " + "RSA PRIVATE KEY-----"
    assert redact(f"here: {block} ok", Placeholders()) == "here: [PRIVATE_KEY_1] ok"


def test_clean_data_has_no_finding() -> None:
    assert check_private_data(clean()).answer == "passed"
    assert check_secrets(clean()).answer == "passed"


@pytest.mark.parametrize(
    "text",
    [
        "order 2127365000 of 2024-01-15 10:30:45 for 1,234,567.89",
        "4111 1111 1111 1112 is no card, 1234567890123456 neither",
        "DE88 3704 0044 0532 0130 00 is no IBAN",
        "part 536-90-4399 of the series",  # no word for a national number
        "my SSN is 000-12-3456",
        "version 1.2.3.4, then 999.1.1.1 and 127.0.0.1",
        "std::a::b at 10:30:45 and 12:34:56:78",
        "the password is wrong, my token expired, secret: nothing",
        "password: required",
        "user@localhost and @handle, a@b",
        "sk-" + "learn-pipelines-are-good-to-have",
        "token: " + "configuration_of_the_server",
    ],
)
def test_look_alikes_are_left_alone(text: str) -> None:
    assert all_spans(text) == []


def test_an_iban_ends_where_the_words_begin() -> None:
    (span,) = private_spans("PAY DE89 3704 0044 0532 0130 00 TODAY PLEASE")
    assert span.value == "DE89 3704 0044 0532 0130 00"


def test_random_digits_are_seldom_taken_for_personal_data() -> None:
    chance = random.Random(5)
    numbers = [
        "".join(chance.choices(string.digits, k=chance.choice([8, 10, 11, 12, 16]))) for _ in range(3000)
    ]
    found = [number for number in numbers if private_spans(f"Order {number} has not arrived.")]
    assert len(found) / len(numbers) < 0.02  # one number in ten of 16 digits satisfies Luhn's check


def test_the_same_value_has_the_same_placeholder_in_a_whole_data_set() -> None:
    pairs = [
        ("Write to jo@mail.com or call +44 20 7946 0958", "contact"),
        ("JO@mail.com wrote, and ann@mail.com", "contact"),
        ("It is [EMAIL_7] and jo@mail.com", "contact"),
        ("nothing", "reply to ann@mail.com"),
        ("call +442079460958", "contact"),
    ]
    result = check_private_data(audit_data(pairs))
    fixed = {
        (row, finding.field): text
        for finding in result.findings
        for row, text in zip(finding.rows, finding.fixed or (), strict=True)
    }
    assert fixed == {
        (0, "input"): "Write to [EMAIL_8] or call [PHONE_1]",
        (1, "input"): "[EMAIL_8] wrote, and [EMAIL_9]",
        (2, "input"): "It is [EMAIL_7] and [EMAIL_8]",  # a placeholder that was there stands for another
        (3, "target"): "reply to [EMAIL_9]",
        (4, "input"): "call [PHONE_1]",
    }
    assert found_rows(result) == {0, 1, 2, 3, 4}


def test_each_finding_of_a_row_suggests_the_same_text() -> None:
    data = audit_data([("jo@mail.com, 81.2.69.142, password: " + "Winter2024x", "x")])
    private, secrets = check_private_data(data).findings, check_secrets(data).findings
    assert {finding.fixed for finding in (*private, *secrets)} == {
        ("[EMAIL_1], [IP_1], password: [SECRET_1]",)
    }


PIECES = [*EMAILS, *PHONES, *CARDS, *IBANS, *IPS, *IDS, *SECRETS]
PIECES += [
    "hello",
    "card",
    "12",
    "2024",
    "[EMAIL_1]",
    "://",
    "@",
    ":",
    "password:",
    "SSN",
    "+44",
    "tel",
    "-",
    "\n",
]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=8), st.sampled_from([" ", ", ", "", "\n", "; "]))
def test_redacting_twice_changes_nothing_and_no_value_survives(pieces: list[str], between: str) -> None:
    text = between.join(pieces)
    spans = all_spans(text)
    once = redact(text, Placeholders())
    assert all_spans(once) == []
    assert redact(once, Placeholders()) == once
    for span in spans:
        if between.strip() != between or between == "\n":  # values stand apart from what is around them
            assert span.value not in once


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=string.digits + "abcdeABCDE@.:+-() /[]_=", max_size=60))
def test_redaction_ends_and_is_stable_on_any_text(text: str) -> None:
    once = redact(text, Placeholders())
    assert redact(once, Placeholders()) == once
    if not all_spans(text):
        assert once == text


@pytest.mark.parametrize(
    "text", ["a" * 99_999, "1 " * 40_000, "a@" * 40_000, "a:" * 40_000, "AB12 " * 20_000]
)
def test_long_texts_take_linear_time(text: str) -> None:
    import time

    started = time.process_time()
    all_spans(text)
    assert time.process_time() - started < 5
