"""A frozen version is checked for leaks, named by its content and refused once edited."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest
from pyarrow import parquet

import tunesmith
from data_samples import SPEC, frozen, prepare, write_data
from tunesmith.data.tables import read_rows, write_rows
from tunesmith.data.versions import freeze, load_dataset, read_split
from tunesmith.errors import UserError
from tunesmith.records import AuditAnswer

# The version of the sample data as frozen before rows could have fields, rejected answers or annotations.
BEFORE_FIELDS = "bc38ed074a636a58f649cc87a64e24ecebdc6da03dee1bc0219586deb1943367"


def files_of(folder: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def test_a_version_holds_the_splits_and_an_account_that_adds_up(tmp_path: Path) -> None:
    source, split = prepare(write_data(tmp_path / "a.jsonl"))
    dataset = freeze(tmp_path / "datasets", task="cards", source=source, split=split, spec=SPEC)
    manifest = dataset.manifest
    assert Path(dataset.folder).name == manifest.version[:12]
    assert {file.name for file in Path(dataset.folder).iterdir()} == {
        "manifest.json",
        "test.parquet",
        "train.parquet",
        "validation.parquet",
    }
    assert tuple(read_split(dataset, "train")) == split.train
    assert tuple(read_split(dataset, "validation")) == split.validation
    assert load_dataset(Path(dataset.folder)) == dataset
    assert {name: counts.rows for name, counts in manifest.splits.items()} == {
        "train": 90,
        "validation": 40,
        "test": 60,
    }
    placed = sum(counts.rows for counts in manifest.splits.values())
    assert manifest.source_rows == manifest.rows == placed + sum(aside.rows for aside in manifest.set_aside)
    assert manifest.conflict_groups == 1
    assert manifest.leaks == 0
    assert manifest.recipe["seed"] == 1


def test_the_same_content_gives_the_same_bytes_and_freezing_it_again_changes_nothing(tmp_path: Path) -> None:
    path = write_data(tmp_path / "a.jsonl")
    first, elsewhere = frozen(tmp_path / "one", path), frozen(tmp_path / "two", path)
    assert files_of(first.folder) == files_of(elsewhere.folder)
    before = {file: file.stat().st_mtime_ns for file in Path(first.folder).iterdir()}
    assert frozen(tmp_path / "one", path) == first
    assert {file: file.stat().st_mtime_ns for file in Path(first.folder).iterdir()} == before
    assert len(list((tmp_path / "one").iterdir())) == 1


def test_a_shuffled_source_gives_the_same_version(tmp_path: Path) -> None:
    versions = {
        frozen(
            tmp_path / "datasets", write_data(tmp_path / str(shuffle) / "a.jsonl", shuffle)
        ).manifest.version
        for shuffle in (None, 1, 2)
    }
    assert len(versions) == 1


def test_a_changed_training_row_is_another_version_of_the_same_test(tmp_path: Path) -> None:
    source, split = prepare(write_data(tmp_path / "a.jsonl"))
    first = freeze(tmp_path / "datasets", task="cards", source=source, split=split, spec=SPEC)
    changed = replace(split, train=(replace(split.train[0], target="fee!"), *split.train[1:]))
    second = freeze(tmp_path / "datasets", task="cards", source=source, split=changed, spec=SPEC)
    assert second.manifest.version != first.manifest.version
    assert second.manifest.test_sha256 == first.manifest.test_sha256
    relabelled = replace(split, test=(replace(split.test[0], target="fee!"), *split.test[1:]))
    third = freeze(tmp_path / "datasets", task="cards", source=source, split=relabelled, spec=SPEC)
    assert third.manifest.test_sha256 != first.manifest.test_sha256


def test_a_version_keeps_the_answers_of_the_audit_and_its_name_without_them(tmp_path: Path) -> None:
    source, split = prepare(write_data(tmp_path / "a.jsonl"))
    checks = (AuditAnswer("labels", "failed", 2, 12), AuditAnswer("lengths", "unmeasured", 0, 0))
    plain = freeze(tmp_path / "plain", task="cards", source=source, split=split, spec=SPEC)
    audited = freeze(tmp_path / "audited", task="cards", source=source, split=split, spec=SPEC, checks=checks)
    assert audited.manifest.version == plain.manifest.version
    assert load_dataset(Path(audited.folder)).manifest.checks == checks
    path = Path(plain.folder) / "manifest.json"
    older = json.loads(path.read_text())
    del older["checks"]
    path.write_text(json.dumps(older))
    assert load_dataset(Path(plain.folder)).manifest.checks == ()


@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("where", ["validation", "test"])
def test_a_planted_duplicate_across_splits_blocks(tmp_path: Path, where: str, near: bool) -> None:
    source, split = prepare(write_data(tmp_path / "a.jsonl"))
    victim = split.test[0] if where == "test" else split.validation[0]
    text = f"{victim.text} indeed" if near else victim.text.upper()
    planted = replace(
        split.train[0],
        id="planted",
        source="a.jsonl:999",
        group="planted",
        messages=(replace(victim.messages[0], content=text),),
    )
    with pytest.raises(UserError, match="rows leak") as caught:
        freeze(
            tmp_path / "datasets",
            task="cards",
            source=source,
            split=replace(split, train=(*split.train, planted)),
            spec=SPEC,
        )
    assert "a.jsonl:999 (train)" in caught.value.what
    assert f"{victim.source} ({where})" in caught.value.what
    assert ("near-duplicate" if near else "same text") in caught.value.what
    assert not (tmp_path / "datasets").exists()


def test_a_group_in_two_splits_blocks(tmp_path: Path) -> None:
    source, split = prepare(write_data(tmp_path / "a.jsonl"))
    torn = replace(
        split, validation=(replace(split.validation[0], group=split.train[0].group), *split.validation[1:])
    )
    with pytest.raises(UserError, match="same group"):
        freeze(tmp_path / "datasets", task="cards", source=source, split=torn, spec=SPEC)


@pytest.mark.parametrize("name", ["train.parquet", "validation.parquet", "test.parquet"])
def test_an_edited_parquet_is_refused(tmp_path: Path, name: str) -> None:
    dataset = frozen(tmp_path / "datasets", write_data(tmp_path / "a.jsonl"))
    path = Path(dataset.folder) / name
    rows = read_rows(path)
    write_rows(path, [replace(rows[0], source="elsewhere:1"), *rows[1:]])
    with pytest.raises(UserError, match="edited after the freeze") as caught:
        load_dataset(Path(dataset.folder))
    assert name in caught.value.what
    with pytest.raises(UserError, match="edited after the freeze"):
        frozen(tmp_path / "datasets", tmp_path / "a.jsonl")
    path.unlink()
    with pytest.raises(UserError, match="is missing"):
        load_dataset(Path(dataset.folder))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("conflict_groups", 0),
        ("labels", ["card"]),
        ("test_sha256", "0" * 64),
        ("files", []),
        ("leaks", "none"),
    ],
)
def test_an_edited_manifest_is_refused(tmp_path: Path, key: str, value: object) -> None:
    dataset = frozen(tmp_path / "datasets", write_data(tmp_path / "a.jsonl"))
    path = Path(dataset.folder) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserError, match=r"manifest\.json"):
        load_dataset(Path(dataset.folder))


def test_a_folder_without_a_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no frozen dataset there"):
        load_dataset(tmp_path)


def test_a_failed_freeze_leaves_nothing_behind(tmp_path: Path) -> None:
    source, split = prepare(write_data(tmp_path / "a.jsonl"))
    unwritable = replace(split, train=(replace(split.train[0], target=None), *split.train[1:]))  # type: ignore[arg-type]  # a broken row
    with pytest.raises(Exception, match="contains nulls"):
        freeze(tmp_path / "datasets", task="cards", source=source, split=unwritable, spec=SPEC)
    assert list((tmp_path / "datasets").iterdir()) == []


def test_the_parquet_files_hold_plain_columns(tmp_path: Path) -> None:
    dataset = frozen(tmp_path / "datasets", write_data(tmp_path / "a.jsonl"))
    table = parquet.read_table(Path(dataset.folder) / "train.parquet")
    assert table.column_names == ["id", "source", "messages", "target", "group", "conflict"]


def test_data_without_fields_keep_the_version_they_had(tmp_path: Path) -> None:
    dataset = frozen(tmp_path / "datasets", write_data(tmp_path / "a.jsonl"))
    assert dataset.manifest.version == BEFORE_FIELDS


def test_fields_rejected_answers_and_annotations_are_frozen_and_read_again(tmp_path: Path) -> None:
    source, split = prepare(write_data(tmp_path / "a.jsonl"))
    plain = freeze(tmp_path / "datasets", task="cards", source=source, split=split, spec=SPEC)
    for part in (
        {"fields": (("customer", "c1"), ("when", "2024"))},
        {"rejected": "another answer"},
        {"annotations": (("ann", "fee"), ("bob", "fee"))},
    ):
        changed = replace(split.train[0], **part)
        train = (changed, *split.train[1:])
        dataset = freeze(
            tmp_path / "datasets", task="cards", source=source, split=replace(split, train=train), spec=SPEC
        )
        assert tuple(read_split(load_dataset(Path(dataset.folder)), "train")) == train
        assert dataset.manifest.version != plain.manifest.version
        assert dataset.manifest.test_sha256 == plain.manifest.test_sha256
        # Only the file whose rows have the part has its column.
        assert files_of(dataset.folder)["test.parquet"] == files_of(plain.folder)["test.parquet"]
        column = next(iter(part))
        names = parquet.read_table(Path(dataset.folder) / "train.parquet").column_names
        assert names == ["id", "source", "messages", "target", "group", "conflict", column]


def test_test_rows_cannot_be_read_as_a_split(tmp_path: Path) -> None:
    dataset = frozen(tmp_path / "datasets", write_data(tmp_path / "a.jsonl"))
    with pytest.raises(ValueError, match="use open_test"):
        read_split(dataset, "test")  # type: ignore[arg-type]  # what the types forbid is refused at run time too


def _constants(tree: ast.AST) -> str:
    return "\n".join(
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def test_no_other_file_names_the_test_file_or_reads_frozen_rows() -> None:
    home = Path(tunesmith.__file__).parent
    allowed = {home / "data" / "sealed.py", home / "data" / "versions.py"}
    naming, reading = set(), set()
    for path in home.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if "test.parquet" in _constants(tree):
            naming.add(path)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "tunesmith.data.tables":
                reading |= {path for name in node.names if name.name in ("read_rows", "*")}
            elif isinstance(node, (ast.Import, ast.ImportFrom)) and any(
                name.name in ("tunesmith.data.tables", "tables") for name in node.names
            ):
                reading.add(path)
    assert naming == allowed
    assert reading == allowed
