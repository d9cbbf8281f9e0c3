"""The ledger: every tampering that it promises to show is shown and named; no crash bricks it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith import ledger as ledger_module
from tunesmith.errors import UserError
from tunesmith.files import content_hash
from tunesmith.ledger import GENESIS, LedgerLine, append, distinct_contests, opening_number, read, verify


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger of five lines."""
    path = tmp_path / "task" / "ledger.jsonl"
    for number in range(5):
        append(path, "verdict", {"number": number, "note": "größer\nals"})
    return path


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").splitlines()


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(line + "\n" for line in lines), encoding="ascii")


def rehashed(line: str, **changes: object) -> str:
    fields = {**json.loads(line), **changes}
    fields["hash"] = content_hash([fields[name] for name in ("seq", "time", "event", "data", "previous")])
    return json.dumps(fields)


def complaint(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        verify(path)
    assert caught.value.exit_code == 1
    assert caught.value.fix
    return caught.value.what


def test_lines_come_back_as_written_and_are_chained(ledger: Path) -> None:
    lines = read(ledger)
    assert [line.seq for line in lines] == [1, 2, 3, 4, 5]
    assert [line.data["number"] for line in lines] == [0, 1, 2, 3, 4]
    assert lines[0].data["note"] == "größer\nals"
    assert lines[0].previous == GENESIS
    assert all(later.previous == earlier.hash for earlier, later in pairwise(lines))
    assert datetime.fromisoformat(lines[0].time).tzinfo == UTC
    head = verify(ledger)
    assert (head.lines, head.hash) == (5, lines[-1].hash)


@pytest.mark.parametrize("number", [1, 3, 5])
def test_an_edited_line_is_named(ledger: Path, number: int) -> None:
    lines = lines_of(ledger)
    lines[number - 1] = lines[number - 1].replace(f'"number": {number - 1}', '"number": 99')
    write_lines(ledger, lines)
    assert f"line {number} was edited" in complaint(ledger)


@pytest.mark.parametrize("number", [1, 3, 5])
def test_an_edited_line_with_a_new_hash_of_its_own_is_named(ledger: Path, number: int) -> None:
    lines = lines_of(ledger)
    lines[number - 1] = rehashed(lines[number - 1], data={"number": 99})
    write_lines(ledger, lines)
    assert f"line {number} was edited" in complaint(ledger)


def test_even_a_space_or_a_changed_field_order_is_an_edit(ledger: Path) -> None:
    lines = lines_of(ledger)
    write_lines(ledger, [lines[0], lines[1].replace('": ', '":  ', 1), *lines[2:]])
    assert "line 2 was edited" in complaint(ledger)
    write_lines(ledger, [lines[0], "", *lines[2:]])
    assert "line 2 was edited" in complaint(ledger)


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_removed_line_is_named_also_the_last(ledger: Path, number: int) -> None:
    lines = lines_of(ledger)
    del lines[number - 1]
    write_lines(ledger, lines)
    assert f"line {number} was removed" in complaint(ledger)


def test_several_removed_last_lines_and_a_removed_ledger_are_named(ledger: Path) -> None:
    write_lines(ledger, lines_of(ledger)[:2])
    assert "line 3 to 5 was removed" in complaint(ledger)
    ledger.unlink()
    assert "line 1 to 5 was removed" in complaint(ledger)


def test_a_removed_line_is_noticed_when_the_rest_is_numbered_anew(ledger: Path) -> None:
    lines = lines_of(ledger)
    write_lines(ledger, [*lines[:2], *(rehashed(line, seq=i) for i, line in enumerate(lines[3:], start=3))])
    assert "line 2 was edited: line 3 was chained to another one" in complaint(ledger)


def test_reordered_lines_are_named(ledger: Path) -> None:
    lines = lines_of(ledger)
    write_lines(ledger, [lines[0], lines[2], lines[1], *lines[3:]])
    assert "line 2 was reordered" in complaint(ledger)


def test_a_copied_line_is_named(ledger: Path) -> None:
    lines = lines_of(ledger)
    write_lines(ledger, [*lines[:3], lines[1], *lines[3:]])
    assert "line 4 was copied in" in complaint(ledger)


def test_a_chain_rewritten_from_the_middle_disagrees_with_the_head(ledger: Path) -> None:
    lines = lines_of(ledger)
    previous = json.loads(lines[1])["hash"]
    for index in range(2, 5):
        lines[index] = rehashed(lines[index], previous=previous, data={"number": 99})
        previous = json.loads(lines[index])["hash"]
    write_lines(ledger, lines)
    assert "line 5 was edited, or rewritten with lines before it" in complaint(ledger)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed(ledger: Path, position: float, bit: int) -> None:
    original = ledger.read_bytes()
    damaged = bytearray(original)
    damaged[int(position * len(damaged))] ^= 1 << bit
    try:
        ledger.write_bytes(damaged)
        with pytest.raises(UserError):
            verify(ledger)
    finally:
        ledger.write_bytes(original)


def set_back(head: Path) -> None:
    head.write_text(json.dumps({"lines": 2, "hash": "0" * 64}))


def garble(head: Path) -> None:
    head.write_text("5 lines")


def remove(head: Path) -> None:
    head.unlink()


@pytest.mark.parametrize(
    ("change", "words"), [(set_back, "set back"), (garble, "was edited"), (remove, "is missing")]
)
def test_a_changed_head_is_named(ledger: Path, change: Callable[[Path], None], words: str) -> None:
    change(ledger.with_suffix(".head"))
    assert words in complaint(ledger)


@pytest.mark.parametrize("damage", ["edited", "torn", "cut"])
def test_nothing_is_appended_to_a_broken_ledger(ledger: Path, damage: str) -> None:
    content = ledger.read_bytes()
    damaged = {
        "edited": content.replace(b'"number": 1', b'"number": 7'),
        "torn": content[:-20],
        "cut": content[: content.rindex(b'{"seq": 5')],
    }[damage]
    ledger.write_bytes(damaged)
    with pytest.raises(UserError) as caught:
        append(ledger, "verdict", {})
    assert caught.value.fix
    assert ledger.read_bytes() == damaged


def test_a_torn_line_left_by_a_power_cut_is_explained_and_the_advice_works(ledger: Path) -> None:
    whole = ledger.read_bytes()
    ledger.write_bytes(whole + b'{"seq": 6, "time": "2026')
    assert "line 6 is torn" in complaint(ledger)
    with pytest.raises(UserError) as caught:
        append(ledger, "verdict", {})
    assert "delete that unfinished last line" in caught.value.fix
    ledger.write_bytes(whole)
    assert append(ledger, "verdict", {}).seq == 6


def test_a_missing_last_newline_is_told_apart_from_a_torn_line(ledger: Path) -> None:
    ledger.write_bytes(ledger.read_bytes().rstrip(b"\n"))
    assert "line 5 was edited: the newline at its end is gone" in complaint(ledger)


def dies_at(lines_written: int) -> Callable[[Path, tuple[LedgerLine, ...]], None]:
    """Writes heads, but is interrupted before the one that counts ``lines_written`` lines."""
    write_head = ledger_module._write_head

    def write_or_die(path: Path, lines: tuple[LedgerLine, ...]) -> None:
        if len(lines) == lines_written:
            raise KeyboardInterrupt
        write_head(path, lines)

    return write_or_die


@pytest.mark.parametrize("lines_before", [0, 1, 4])
def test_crashes_between_line_and_head_never_brick_the_ledger(
    tmp_path: Path, lines_before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.jsonl"
    for number in range(lines_before):
        append(path, "frozen", {"number": number})
    for crash in range(1, 4):
        with monkeypatch.context() as patch:
            patch.setattr(ledger_module, "_write_head", dies_at(lines_before + crash))
            with pytest.raises(KeyboardInterrupt):
                append(path, "verdict", {})
        assert verify(path).lines == lines_before + crash
    append(path, "verdict", {})
    assert verify(path).lines == lines_before + 4


def test_a_full_disk_leaves_the_ledger_as_it_was(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ledger.read_bytes()
    real_write = os.write

    def half_then_full(handle: int, content: bytes) -> int:
        if len(content) > 60:
            return real_write(handle, content[:60])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half_then_full)
        with pytest.raises(UserError, match="No space left on device"):
            append(ledger, "verdict", {"long": "x" * 10})
    assert ledger.read_bytes() == before
    assert append(ledger, "verdict", {}).seq == 6


def test_two_processes_never_interleave(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    program = (
        "import sys; from pathlib import Path; from tunesmith.ledger import append\n"
        "for number in range(25):\n"
        "    append(Path(sys.argv[1]), 'verdict', {'who': sys.argv[2], 'number': number})"
    )
    workers = [subprocess.Popen([sys.executable, "-c", program, str(path), who]) for who in "ab"]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
    lines = read(path)
    assert len(lines) == 50
    assert [line.data["number"] for line in lines if line.data["who"] == "a"] == list(range(25))


def test_a_first_read_finds_no_lines_and_verify_says_there_is_no_ledger(tmp_path: Path) -> None:
    assert read(tmp_path / "ledger.jsonl") == ()
    with pytest.raises(UserError, match="there is no ledger") as caught:
        verify(tmp_path / "ledger.jsonl")
    assert caught.value.exit_code == 2


def test_a_second_distinct_contest_is_the_second_opening_and_the_same_again_is_free(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"

    def open_test(test: str, contest: str) -> int:
        append(path, "test_opened", {"test_sha256": test, "contest_id": contest})
        return opening_number(path, test, contest)

    assert opening_number(path, "test-1", "first") == 1
    assert open_test("test-1", "first") == 1
    assert open_test("test-1", "second") == 2
    assert open_test("test-1", "first") == 1
    assert open_test("another test", "third") == 1
    append(path, "verdict", {"test_sha256": "test-1", "contest_id": "no opening"})
    assert opening_number(path, "test-1", "third") == 3
    assert distinct_contests(path, "test-1") == ["first", "second"]


def test_openings_are_not_counted_in_an_edited_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    append(path, "test_opened", {"test_sha256": "t", "contest_id": "first"})
    path.write_bytes(path.read_bytes().replace(b"first", b"other"))
    with pytest.raises(UserError, match="line 1 was edited"):
        opening_number(path, "t", "new")


def test_an_opening_that_names_no_contest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contest_id"):
        append(tmp_path / "ledger.jsonl", "test_opened", {"test_sha256": "t"})
    assert not (tmp_path / "ledger.jsonl").exists()


@pytest.mark.parametrize("data", [{"number": float("nan")}, {"text": "\ud800"}])
def test_data_that_would_not_survive_is_refused_before_anything_is_written(
    ledger: Path, data: dict[str, object]
) -> None:
    before = ledger.read_bytes()
    with pytest.raises(ValueError, match=r".+"):
        append(ledger, "verdict", data)
    assert ledger.read_bytes() == before
