"""The sealed test is opened only with a line in the ledger, and every distinct contest is counted."""

import json
import random
import shutil
import stat
from pathlib import Path

import pytest

from data_samples import frozen, prepare, write_data
from tunesmith.data.sealed import SHOWN, open_test
from tunesmith.errors import UserError
from tunesmith.ledger import read
from tunesmith.records import Dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return frozen(tmp_path / "datasets", write_data(tmp_path / "a.jsonl"))


def test_opening_the_test_writes_the_line_and_returns_the_rows(tmp_path: Path, dataset: Dataset) -> None:
    ledger = tmp_path / "ledger.jsonl"
    rows, opening = open_test(dataset, ledger, "contest-1", ["tuned", "few-shot"])
    assert tuple(rows) == prepare(tmp_path / "a.jsonl")[1].test
    assert opening == 1
    (line,) = read(ledger)
    assert line.event == "test_opened"
    assert line.data == {
        "test_sha256": dataset.manifest.test_sha256,
        "dataset_version": dataset.manifest.version,
        "contest_id": "contest-1",
        "candidates": ["tuned", "few-shot"],
    }


def test_a_second_distinct_contest_is_a_second_line_and_the_same_one_is_free(
    tmp_path: Path, dataset: Dataset
) -> None:
    ledger = tmp_path / "ledger.jsonl"
    openings = [
        open_test(dataset, ledger, contest, ["tuned"])[1] for contest in ("a", "a", "b", "a", "b", "c")
    ]
    assert openings == [1, 1, 2, 1, 2, 3]
    assert [line.data["contest_id"] for line in read(ledger)] == ["a", "b", "c"]


def test_contests_on_a_test_with_rows_of_this_one_are_counted_too(tmp_path: Path, dataset: Dataset) -> None:
    ledger = tmp_path / "ledger.jsonl"
    assert open_test(dataset, ledger, "a", ["tuned"])[1] == 1
    # Some rows more: most rows of the test stay.
    rows = (tmp_path / "a.jsonl").read_text()
    chance = random.Random(0)
    more = [" ".join(map(str, chance.sample(range(9_999), 9))) for _ in range(40)]
    added = "".join(json.dumps({"text": text, "label": "card"}) + "\n" for text in more)
    (tmp_path / "b.jsonl").write_text(rows + added)
    grown = frozen(tmp_path / "datasets", tmp_path / "b.jsonl")
    assert grown.manifest.test_sha256 != dataset.manifest.test_sha256
    assert open_test(grown, ledger, "a", ["tuned"])[1] == 2
    # Nothing in common.
    (tmp_path / "c.jsonl").write_text(rows.replace("number ", "piece "))
    apart = frozen(tmp_path / "datasets", tmp_path / "c.jsonl")
    assert open_test(apart, ledger, "a", ["tuned"])[1] == 1
    assert open_test(dataset, ledger, "a", ["tuned"])[1] == 1
    # What a version that is gone held cannot be known.
    shutil.rmtree(apart.folder)
    assert open_test(grown, ledger, "b", ["tuned"])[1] == 4


def test_a_test_that_a_person_has_seen_is_spent(tmp_path: Path, dataset: Dataset) -> None:
    ledger = tmp_path / "ledger.jsonl"
    before = open_test(dataset, ledger, "before", ["tuned"])
    open_test(dataset, ledger, "seen", [SHOWN])
    with pytest.raises(UserError, match="no verdict may use it any more") as told:
        open_test(dataset, ledger, "after", ["tuned"])
    assert told.value.exit_code == 3
    assert [line.data["contest_id"] for line in read(ledger)] == ["before", "seen"]
    # What was decided before can be looked at again.
    assert open_test(dataset, ledger, "before", ["tuned"]) == before
    assert len(open_test(dataset, ledger, "seen", [SHOWN])[0]) == len(before[0])


def test_no_rows_are_returned_when_the_ledger_cannot_be_written(tmp_path: Path, dataset: Dataset) -> None:
    ledger = tmp_path / "ledger.jsonl"
    ledger.mkdir()  # a folder in its place: even root cannot append to it
    with pytest.raises(UserError, match=r"ledger\.jsonl"):
        open_test(dataset, ledger, "a", ["tuned"])


def test_a_broken_ledger_keeps_the_test_sealed(tmp_path: Path, dataset: Dataset) -> None:
    ledger = tmp_path / "ledger.jsonl"
    open_test(dataset, ledger, "a", ["tuned"])
    ledger.write_text(ledger.read_text().replace("tuned", "tuner"))
    with pytest.raises(UserError, match="line 1 was edited"):
        open_test(dataset, ledger, "b", ["tuned"])


@pytest.mark.parametrize("remove", [False, True])
def test_an_edited_test_is_not_opened_and_not_counted(tmp_path: Path, dataset: Dataset, remove: bool) -> None:
    path = Path(dataset.folder) / "test.parquet"
    if remove:
        path.unlink()
    else:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="missing or was edited"):
        open_test(dataset, tmp_path / "ledger.jsonl", "a", ["tuned"])
    assert not (tmp_path / "ledger.jsonl").exists()
