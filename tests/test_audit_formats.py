"""Format checks find what was planted, suggest the text that was there before, and leave clean data alone."""

import json
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_samples import LABELS, audit_data, clean, found_rows, precision_and_recall, texts
from tunesmith.data.audit.boilerplate import check_boilerplate, check_truncation
from tunesmith.data.audit.characters import (
    check_control_characters,
    check_encoding,
    check_html,
    decoded,
    without_controls,
    without_html,
)
from tunesmith.data.audit.findings import AuditData, CheckResult, LengthLimit
from tunesmith.data.audit.formats import check_empty_fields, check_lengths, check_turns
from tunesmith.data.audit.label_spelling import check_label_spelling
from tunesmith.data.audit.shapes import check_output_shapes, check_templates, repaired_json
from tunesmith.records import Message, Role, Row

CHECKS = [
    check_encoding,
    check_control_characters,
    check_html,
    check_empty_fields,
    check_turns,
    check_output_shapes,
    check_templates,
    check_label_spelling,
    check_boilerplate,
    check_truncation,
]


def free_text(rows: int, seed: int = 0) -> AuditData:
    """Inputs and written answers, none of which is a label."""
    answers = [text for text, _ in texts(rows, seed + 100)]
    return audit_data(
        [(text, f"Thank you. {a}") for (text, _), a in zip(texts(rows, seed), answers, strict=True)]
    )


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("data", [clean(), free_text(400)], ids=["labels", "free text"])
def test_clean_data_has_no_finding(check: Callable[[AuditData], CheckResult], data: AuditData) -> None:
    result = check(data)
    no_labels = check is check_label_spelling and len({row.target for row in data.rows}) > len(LABELS)
    assert result.answer == ("unmeasured" if no_labels else "passed")
    assert not found_rows(result)
    assert result.sampled_rows is None


ACCENTED = [
    "Le café était fermé à l’heure prévue, déjà payé",
    "Die Überweisung über 20 € ist für Jürgen",
    "“I don’t know” she said — it’s a naïve résumé",
    "El niño pagó mañana por la señal número dos",
]


def test_mojibake_is_found_and_its_original_is_suggested() -> None:
    pairs = [(f"{ACCENTED[n % 4]} ({n})", "x") for n in range(200)]
    planted = set(range(0, 200, 10))
    broken = [
        (text.encode().decode("cp1252", errors="replace") if n in planted else text, label)
        for n, (text, label) in enumerate(pairs)
    ]
    readable = {n for n in planted if "\ufffd" not in broken[n][0]}
    assert len(readable) >= 10
    result = check_encoding(audit_data(broken))
    assert precision_and_recall(result, planted, "mojibake") == (1.0, 1.0)
    finding = next(finding for finding in result.findings if finding.kind == "mojibake")
    assert (finding.field, finding.turn, finding.repair) == ("input", -1, "fix")
    for row, text in zip(finding.rows, finding.fixed or (), strict=True):
        assert (text == pairs[row][0]) is (row in readable)
    lost = planted - readable
    assert found_rows(result, "lost characters") == lost


def test_a_minority_of_decomposed_texts_is_composed() -> None:
    pairs = [(f"{ACCENTED[n % 4]} ({n})", "x") for n in range(100)]
    import unicodedata

    mixed = [
        (unicodedata.normalize("NFD", text) if n < 7 else text, label)
        for n, (text, label) in enumerate(pairs)
    ]
    result = check_encoding(audit_data(mixed))
    assert precision_and_recall(result, set(range(7)), "mixed normal forms") == (1.0, 1.0)
    assert result.findings[0].fixed == tuple(text for text, _ in pairs[:7])
    all_of_them = [(unicodedata.normalize("NFD", text), label) for text, label in pairs]
    assert check_encoding(audit_data(all_of_them)).answer == "passed"


def test_control_and_invisible_characters_are_taken_out() -> None:
    pairs = texts(300)
    marks = ["\x00", "\x08", "\u200b", "\ufeff", "\x1b", "\u202e", "\xad"]
    planted = {n: marks[n % 7] for n in range(0, 300, 15)}
    dirty = [(text[:9] + planted.get(n, "") + text[9:], label) for n, (text, label) in enumerate(pairs)]
    result = check_control_characters(audit_data(dirty))
    assert precision_and_recall(result, set(planted)) == (1.0, 1.0)
    assert result.findings[0].fixed == tuple(pairs[row][0] for row in result.findings[0].rows)


@pytest.mark.parametrize(
    "text", ["a\tb\r\nc", "👩‍👩‍👧 family", "می‌خواهم", "नमस्ते", "naïve café", "שלום\u200f"]
)
def test_characters_that_languages_need_stay(text: str) -> None:
    assert without_controls(text) == text
    assert decoded(text) == text


@pytest.mark.parametrize(
    ("dirty", "wanted"),
    [
        ("<p>My card</p><p>is lost</p>", "My card\nis lost"),
        ('see <a href="https://x.y/?a=1&amp;b=2">this page</a> now', "see this page now"),
        ("fish &amp; chips &nbsp;for 5&nbsp;&euro;", "fish & chips  for 5 €"),
        ("one<br/>two<script>alert('x < y')</script>", "one\ntwo"),
        ("text <!-- hidden --> more", "text <!-- hidden --> more"),
        ("a < b and c > d", "a < b and c > d"),
        ("if x<y && y>z", "if x<y && y>z"),
        ("R&D; AT&T &notanentity;", "R&D; AT&T &notanentity;"),
        ("mail <jo@x.com>", "mail <jo@x.com>"),
        ("```html\n<p>kept</p>\n```", "```html\n<p>kept</p>\n```"),
    ],
)
def test_html_is_taken_out_and_look_alikes_stay(dirty: str, wanted: str) -> None:
    assert without_html(dirty) == wanted
    assert without_html(wanted) == wanted


def test_html_is_found_where_planted_and_only_noted_where_it_is_the_task() -> None:
    pairs = texts(300)
    planted = set(range(0, 300, 20))
    dirty = [(f"<div>{text}</div>" if n in planted else text, label) for n, (text, label) in enumerate(pairs)]
    result = check_html(audit_data(dirty))
    assert precision_and_recall(result, planted) == (1.0, 1.0)
    assert result.findings[0].fixed == tuple(pairs[row][0] for row in sorted(planted))
    page = [(f"<div>{text}</div>", label) for text, label in pairs]
    result = check_html(audit_data(page))
    assert (result.answer, [finding.repair for finding in result.findings]) == ("passed", ["keep"])


def test_empty_and_missing_parts_are_found() -> None:
    pairs = texts(300)
    pairs[3], pairs[40], pairs[77], pairs[90] = (
        ("", "x"),
        ("  \n", "x"),
        (pairs[77][0], " "),
        ("NaN", "pending"),
    )
    pairs[120], pairs[121] = (pairs[120][0], "null"), ("-", "pending")
    result = check_empty_fields(audit_data(pairs, customer=["a", None, *["b"] * 298]))
    kinds = {finding.kind: finding.rows for finding in result.findings}
    assert kinds == {
        "empty input": (3, 40),
        "empty target": (77,),
        "word for a missing input": (90, 121),
        "word for a missing target": (120,),
        "gaps in a column": (1,),
    }
    frequent = [(text, "none" if n % 3 == 0 else label) for n, (text, label) in enumerate(texts(300))]
    assert check_empty_fields(audit_data(frequent)).answer == "passed"  # a label, not a gap


@pytest.mark.parametrize(
    ("roles", "wrong"),
    [
        (["user"], False),
        (["system", "user", "assistant", "user"], False),
        (["assistant", "user"], False),  # a greeting, only noted
        (["user", "system"], True),
        (["user", "user"], True),
        (["user", "assistant"], True),
        (["system"], True),
        (["user", "bot", "user"], True),
        ([], True),
    ],
)
def test_turns_out_of_order_are_found(roles: list[Role], wrong: bool) -> None:
    good = clean(50)
    messages = tuple(Message(role, "hello there") for role in roles)
    data = AuditData((*good.rows, Row("x", "chat.jsonl:1", messages, "hi")), (None,) * 51)
    assert found_rows(check_turns(data)) == ({50} if wrong else set())


def json_target(number: int) -> str:
    return json.dumps({"amount": number, "reason": f"number {number}"})


def test_json_that_does_not_parse_is_found_and_repaired_where_only_its_wrapping_is_wrong() -> None:
    pairs = [(text, json_target(n)) for n, (text, _) in enumerate(texts(200))]
    good = [target for _, target in pairs]
    spoil: dict[int, str] = {
        5: f"```json\n{good[5]}\n```",
        25: good[25][:-1] + ",}",
        45: str(json.loads(good[45])),
        65: good[65][:-4],
        85: "the amount is 85",
    }
    pairs = [(text, spoil.get(n, target)) for n, (text, target) in enumerate(pairs)]
    pairs[105] = (pairs[105][0], json.dumps({"amount": 3}))
    pairs[125] = (pairs[125][0], json.dumps({"amount": "12", "reason": "text"}))
    pairs[145] = (pairs[145][0], json.dumps({"amount": 12, "reason": "text", "resaon": "x"}))
    pairs[165] = (pairs[165][0], "[1, 2]")
    result = check_output_shapes(audit_data(pairs))
    assert found_rows(result) == {*spoil, 105, 125, 145, 165}
    fixed = next(finding for finding in result.findings if finding.repair == "fix")
    assert fixed.rows == (5, 25, 45)
    assert [json.loads(text) for text in fixed.fixed or ()] == [json.loads(good[row]) for row in fixed.rows]
    kinds = {row: finding.kind for finding in result.findings for row in finding.rows}
    assert [kinds[row] for row in (65, 105, 125, 145, 165)] == [
        "JSON beyond repair",
        "missing key",
        "another JSON type",
        "rare key",
        "another JSON shape",
    ]


@pytest.mark.parametrize("text", ["[" * 100_000, "{'a': " * 5000, "{" + "(" * 5000, "nonsense", ""])
def test_json_that_cannot_be_repaired_ends_in_none(text: str) -> None:
    assert repaired_json(text) is None


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=5), st.booleans()), min_size=1
    )
)
def test_python_literals_become_the_same_json(value: dict[str, object]) -> None:
    repaired = repaired_json(repr(value))
    assert repaired is not None
    assert json.loads(repaired) == value


def test_wrapped_labels_are_unwrapped() -> None:
    pairs = texts(300)
    wraps = ["```\n{}\n```", '"{}"', "Answer: {}", "label: {}"]
    planted = {n: wraps[n % 4] for n in range(0, 300, 29)}
    dirty = [(text, planted.get(n, "{}").format(label)) for n, (text, label) in enumerate(pairs)]
    dirty[7] = (dirty[7][0], '{"label": "pending"}')
    result = check_output_shapes(audit_data(dirty))
    assert precision_and_recall(result, {*planted, 7}) == (1.0, 1.0)
    for finding in result.findings:
        for row, text in zip(finding.rows, finding.fixed or (), strict=False):
            assert text == pairs[row][1]


def test_inputs_without_the_common_opening_and_unfilled_placeholders_are_found() -> None:
    pairs = [(f"Customer message: {text}", label) for text, label in texts(300)]
    pairs[11] = texts(300)[11]
    pairs[60] = ("Customer message: Dear {first_name}, my card is lost.", "missing")
    pairs[70] = ("Customer message: I live in [INSERT CITY].", "missing")
    result = check_templates(audit_data(pairs))
    assert found_rows(result, "other template") == {11}
    assert found_rows(result, "unfilled placeholder") == {60, 70}


def test_a_label_spelled_five_ways_gets_its_most_frequent_spelling() -> None:
    pairs = texts(500)
    spellings = ["Pending", "pending ", "PENDING", "'pending'", "pending."]
    places = [n for n, (_, label) in enumerate(pairs) if label == "pending"][:10]
    other = [n for n, (_, label) in enumerate(pairs) if label == "wrong_amount"][:3]
    dirty = list(pairs)
    for n, place in enumerate(places):
        dirty[place] = (pairs[place][0], spellings[n % 5])
    for place, spelling in zip(other, ["wrong amount", "Wrong-Amount", "wrong_amonut"], strict=True):
        dirty[place] = (pairs[place][0], spelling)
    result = check_label_spelling(audit_data(dirty))
    assert precision_and_recall(result, {*places, *other}) == (1.0, 1.0)
    for finding in result.findings:
        assert finding.fixed == tuple(pairs[row][1] for row in finding.rows)
        assert finding.repair == ("ask" if finding.kind == "label slip" else "fix")


def test_labels_that_differ_in_a_digit_or_are_abbreviations_are_different_labels() -> None:
    labels = (
        ["version 2"] * 100 + ["version 3"] * 5 + ["GENHX"] * 100 + ["GYNHX"] * 5 + ["C"] * 20 + ["C++"] * 20
    )
    pairs = [(text, label) for (text, _), label in zip(texts(len(labels)), labels, strict=True)]
    assert check_label_spelling(audit_data(pairs)).answer == "passed"


FOOTER = "This e-mail is confidential and meant only for the person it is addressed to."
HEADER = "Acme Bank customer correspondence, page {} of 12, printed for the archive"


def test_repeated_headers_and_footers_are_found_and_cut_off() -> None:
    pairs = texts(600)
    footers, headers = set(range(0, 600, 20)), set(range(7, 600, 25))
    dirty = [
        (
            (HEADER.format(n % 9 + 1) + "\n" if n in headers else "")
            + text
            + (f"\n\n{FOOTER}" if n in footers else ""),
            label,
        )
        for n, (text, label) in enumerate(pairs)
    ]
    result = check_boilerplate(audit_data(dirty))
    assert precision_and_recall(result, footers | headers, "boilerplate") == (1.0, 1.0)
    (finding,) = (finding for finding in result.findings if finding.kind == "boilerplate")
    assert finding.fixed == tuple(pairs[row][0] for row in finding.rows)


def test_a_sentence_in_every_text_or_in_duplicates_is_no_boilerplate() -> None:
    pairs = [(f"{text}\n{FOOTER}", label) for text, label in texts(300)]
    assert check_boilerplate(audit_data(pairs)).answer == "passed"
    data = audit_data([*texts(300), *[(f"Row {n}. {FOOTER} Thanks.", "x") for n in range(30)]])
    same_group = [replace(row, group="g") if n >= 300 else row for n, row in enumerate(data.rows)]
    assert check_boilerplate(replace(data, rows=tuple(same_group))).answer == "passed"


def test_texts_cut_inside_a_sentence_or_a_word_are_found() -> None:
    pairs = texts(600)
    planted: dict[int, str] = {}
    for n in range(0, 600, 30):
        text = pairs[n][0]
        end = text.index(" the ") + 4 if n % 60 else text.index(" minutes") + 5  # "... at the" and "... minu"
        planted[n] = ("I write to you because of this. " + text)[: 32 + end]
    dirty = [(planted.get(n, text), label) for n, (text, label) in enumerate(pairs)]
    result = check_truncation(audit_data(dirty))
    precision, recall = precision_and_recall(result, set(planted), "ends mid-sentence")
    assert precision == 1.0
    assert recall >= 0.5  # "minu" is one word of the data when several texts are cut there


def test_texts_cut_at_a_limit_pile_up_there() -> None:
    chance = random.Random(3)
    words = [w for text, _ in texts(200) for w in text.split()]
    long = [" ".join(chance.choices(words, k=chance.randint(10, 60))) + "." for _ in range(800)]
    cut = {n for n, text in enumerate(long) if len(text) > 280}
    assert len(cut) > 50
    assert check_truncation(audit_data([(text, "x") for text in long])).answer == "passed"
    result = check_truncation(audit_data([(text[:280], "x") for text in long]))
    precision, recall = precision_and_recall(result, cut, "cut at a limit")
    assert precision >= 0.95  # a text of exactly 280 characters is complete
    assert recall == 1.0


def test_rows_beyond_the_context_are_found_and_only_long_ones_are_counted() -> None:
    counted: list[str] = []

    def count_tokens(row: Row) -> int:
        counted.append(row.id)
        return len(row.text.split()) + 20

    pairs = texts(200)
    pairs[17] = ("word " * 3000, "missing")
    pairs[50] = ("word " * 900, "missing")
    data = replace(audit_data(pairs), length_limit=lambda: LengthLimit(count_tokens, 2048))
    result = check_lengths(data)
    assert found_rows(result) == {17}
    assert set(counted) == {data.rows[17].id, data.rows[50].id}
    assert check_lengths(clean()).answer == "unmeasured"
    assert check_lengths(replace(clean(), length_limit=data.length_limit)).answer == "passed"


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.sampled_from("<>&;/abp \n\x00\u200bé€\"'{}[]“â€™"), max_size=60))
def test_repairs_are_stable(text: str) -> None:
    for repair in (without_controls, decoded):
        assert repair(repair(text)) == repair(text)


def test_every_fix_belongs_to_its_rows() -> None:
    messages = (Message("user", "<p>first</p>"), Message("assistant", "ok"), Message("user", "caf\x00e"))
    data = AuditData((Row("a", "chat:1", messages, "<b>done</b>"),), (None,))
    (control,) = check_control_characters(data).findings
    assert (control.field, control.turn, control.fixed) == ("input", -1, ("cafe",))
    fixes = {
        (f.field, f.turn): f.fixed
        for f in check_html(AuditData(data.rows + clean(9).rows, (None,) * 10)).findings
    }
    assert fixes == {("input", -3): ("first",), ("target", -1): ("done",)}
