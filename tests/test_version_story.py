"""The report's account of a frozen version: what changed since the last one, rows as seen, and exports."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from bank_samples import questions
from test_data_care import session_of
from tiny import link_base
from tunesmith.data.audit.privacy import PrivacySettings
from tunesmith.data.versions import read_split
from tunesmith.data_records import MaskedRow, Part
from tunesmith.errors import UserError
from tunesmith.files import file_sha256
from tunesmith.records import Dataset, Message, Row
from tunesmith.stages.data import make_dataset
from tunesmith.stages.masks import masked_rows
from tunesmith.stages.session import Session
from tunesmith.stages.version_story import rows_to_show, shortened, story_of_version
from tunesmith.stages.versions import compare_versions, export_rows, read_exports
from tunesmith.workspace import TaskFolder

ADDRESS = "anna.rossi@example.com"
GARDEN = "An altogether new sentence about gardens stands in this place."
Record = dict[str, str]


def write(folder: Path, records: list[Record]) -> None:
    (folder / "bank.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def edit(session: Session, dataset: Dataset) -> list[Record]:
    """Edit four training rows in the source: a label, an address added, two words added, another text."""
    path = session.task.folder / "bank.jsonl"
    records: list[Record] = [json.loads(line) for line in path.read_text().splitlines()]
    numbers = [int(row.source.rpartition(":")[2]) - 1 for row in read_split(dataset, "train")]
    relabelled, private, thanked, rewritten = edited = [records[number] for number in numbers[:4]]
    relabelled["label"] = "fees" if relabelled["label"] != "fees" else "transfer"
    private["text"] += f" Write to {ADDRESS}."
    thanked["text"] += " Thank you."
    rewritten["text"] = GARDEN
    write(session.task.folder, records)
    return edited


@pytest.fixture(scope="module")
def versions(
    general_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Session, Dataset, Dataset, list[Record]]:
    """A task of 300 rows, all of which are in a split: its first version, and one after ``edit``."""
    folder = tmp_path_factory.mktemp("versions")
    write(folder, [{"text": row.text, "label": row.target} for row in questions(300)])
    link_base(general_base, folder)
    session = session_of(folder, "{{path: bank.jsonl, input: text, target: label}}", folder / "base")
    first, _ = make_dataset(session)
    edited = edit(session, first)
    return session, first, make_dataset(session)[0], edited


def test_a_first_version_has_no_earlier_one_and_shows_rows_as_they_are_trained_on(
    versions: tuple[Session, Dataset, Dataset, list[Record]],
) -> None:
    session, first, _, _ = versions
    story = story_of_version(session, first)
    assert story.since is None
    train = {row.source: row for row in read_split(first, "train")}
    assert len(story.masked) == 3
    lengths = [len(train[row.source].text) for row in story.masked]
    assert lengths == sorted(lengths)
    again = masked_rows(session, [train[row.source] for row in story.masked], trained=True)
    assert tuple(again) == story.masked


def test_rows_edited_in_the_source_are_told_as_changed_and_private_ones_not_quoted(
    versions: tuple[Session, Dataset, Dataset, list[Record]],
) -> None:
    session, first, second, edited = versions
    story = story_of_version(session, second)
    since = story.since
    assert since is not None
    assert (since.version, since.how) == (first.manifest.version, "frozen before this one")
    rows = compare_versions(session.folder, since.version, second.manifest.version).rows
    changed = {row.after for row in rows if row.what == "changed"}
    there = {row.text for name in ("train", "validation") for row in read_split(second, name)}
    expected = {f"{one['text']} → {one['label']}" for one in edited[:3] if one["text"] in there}
    assert changed == expected
    assert len(changed) >= 2
    assert since.rows["changed"] == len(changed)
    assert sum(since.rows.values()) == len(rows)
    assert sum(change.rows for change in since.changes) + since.other_rows == len(rows)
    assert ADDRESS in json.dumps([row.after for row in rows])
    assert ADDRESS not in json.dumps(asdict(story))


def test_an_export_is_noted_for_its_version_alone_and_a_broken_note_is_named(
    versions: tuple[Session, Dataset, Dataset, list[Record]], tmp_path: Path
) -> None:
    session, first, second, _ = versions
    export_rows(session.folder, first, "train", tmp_path / "out.csv", "csv", 20, "longest")
    (noted,) = story_of_version(session, first).exports
    assert (noted.rows, noted.split, noted.format) == (20, "train", "csv")
    assert (noted.file, noted.chosen) == (str(tmp_path / "out.csv"), "by longest, seed 0")
    assert noted.sha256 == file_sha256(tmp_path / "out.csv")
    assert story_of_version(session, second).exports == ()
    with (tmp_path / "exports.jsonl").open("w") as stream:
        stream.write(session.folder.exports.read_text() + '{"time": 1}\n')
    with pytest.raises(UserError, match="line 2: no note of an export"):
        read_exports(TaskFolder(tmp_path))


def test_an_earlier_version_that_was_edited_is_unmeasured_and_one_that_is_gone_is_passed_over(
    versions: tuple[Session, Dataset, Dataset, list[Record]], tmp_path: Path
) -> None:
    session, first, second, _ = versions
    shutil.copytree(session.folder.datasets, tmp_path / "datasets")
    shutil.copy(session.folder.ledger, tmp_path)
    shutil.copy(session.folder.ledger.with_suffix(".head"), tmp_path)
    other = Session(session.task, TaskFolder(tmp_path), session.console, session.cache)
    earlier = tmp_path / "datasets" / Path(first.folder).name
    (earlier / "train.parquet").write_bytes(b"edited")
    since = story_of_version(other, second).since
    assert since is not None
    assert since.unmeasured is not None
    assert "edited after the freeze" in since.unmeasured
    (earlier / "manifest.json").unlink()
    assert story_of_version(other, second).since is None


def test_private_rows_are_not_shown_and_the_choice_does_not_depend_on_their_order() -> None:
    rows = [
        Row(f"{n:03}", f"rows:{n}", (Message("user", "word " * (n + 1) + ADDRESS * (n % 2)),), "a")
        for n in range(100)
    ]
    hidden = {"094", "096"}
    shown = rows_to_show(rows, hidden, PrivacySettings())
    assert shown == rows_to_show(rows[::-1], hidden, PrivacySettings())
    assert len(shown) == 3
    assert all(ADDRESS not in row.text and row.id not in hidden for row in shown)
    assert rows_to_show([row for row in rows if ADDRESS in row.text], (), PrivacySettings()) == []


def test_a_long_row_keeps_its_ends_and_says_how_much_is_left_out() -> None:
    text = "\x1b<|user|>" + "word " * 20_000 + "<|assistant|>"
    (part,) = shortened(MaskedRow("rows:1", 20_004, 0, (Part(text, False),))).parts
    assert len(part.text) < 1_000
    assert part.text.startswith("␛<|user|>word")
    assert "(99,382 more characters)" in part.text
    assert part.text.endswith("<|assistant|>")
