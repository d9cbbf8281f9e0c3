"""What `tunesmith new` and `tunesmith data` say and do with the formats people bring."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.cli import main
from tunesmith.data.versions import load_dataset, read_split
from tunesmith.task import load_task

Captured = pytest.CaptureFixture[str]
WORDS = ["card", "fee", "loan", "account", "transfer", "lost"]
WORDS += ["stolen", "pending", "charge", "refund", "cash", "limit"]


def text(number: int) -> str:
    return f"number {number} " + " ".join(WORDS[(number * step) % 12] for step in (1, 5, 7, 11))


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNESMITH_RUNS", raising=False)


def new_and_data(capsys: Captured, data: str, *options: str) -> tuple[dict[str, Any], str, Any]:
    """What new answers, what data says, and the version that was frozen."""
    assert main(["new", "mine", "--data", data, "--json", *options]) == 0, capsys.readouterr().err
    answer = json.loads(capsys.readouterr().out)
    assert main(["data", "freeze", "mine/task.yaml"]) == 0, capsys.readouterr().err
    said = " ".join(capsys.readouterr().out.split())
    (home,) = Path("runs/mine/datasets").iterdir()
    return answer, said, load_dataset(home)


def write_label_studio(path: Path) -> None:
    def annotation(who: int, label: str) -> dict[str, Any]:
        value = {"choices": [label]}
        return {"completed_by": who, "result": [{"type": "choices", "from_name": "topic", "value": value}]}

    tasks = [
        {"id": n, "data": {"text": text(n)}, "annotations": [annotation(1, "ab"[n % 2]), annotation(2, "a")]}
        for n in range(400)
    ]
    tasks += [
        {"id": n, "data": {"text": text(n)}, "annotations": [annotation(1, "b")]} for n in range(400, 600)
    ]
    path.write_text(json.dumps(tasks))


def test_a_label_studio_export_goes_from_file_to_version(capsys: Captured) -> None:
    write_label_studio(Path("export.json"))
    answer, said, dataset = new_and_data(capsys, "export.json")
    assert (answer["input"], answer["target"], answer["rows"]) == ("text", "topic", 600)
    assert (
        "export.json: read as a JSON array, as it begins with [; tasks of Label Studio"
        in answer["read_as"][0]
    )
    assert answer["read_as"][0] in said
    assert "200 rows whose annotators have no majority: 2, 4, 6," in said
    assert {aside.reason: aside.rows for aside in dataset.manifest.set_aside} == {
        "rows whose annotators have no majority": 200
    }
    assert dataset.manifest.source_rows == 600
    kept = read_split(dataset, "train")
    assert {row.annotations for row in kept} == {(), (("1", "a"), ("2", "a"))}


def test_packed_alpaca_with_a_field_goes_from_file_to_version(capsys: Captured) -> None:
    rows = [
        {"instruction": "Name the topic.", "input": text(n), "output": WORDS[n % 3], "customer": n}
        for n in range(300)
    ]
    Path("alpaca.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    answer, said, dataset = new_and_data(capsys, "alpaca.json.gz")
    assert (answer["input"], answer["target"]) == (["instruction", "input"], "output")
    assert "packed with gzip" in said
    row = read_split(dataset, "train")[0]
    assert row.text.startswith("Name the topic.\n\nnumber ")
    assert row.fields == ()
    task_file = Path("mine/task.yaml")
    task_file.write_text(
        task_file.read_text().replace('  #fields: ["created_at", "customer"]', "  fields: [customer]")
    )
    assert load_task(task_file).data.fields == ("customer",)
    assert main(["data", "freeze", "mine/task.yaml", "--json"]) == 0
    version = load_dataset(Path(json.loads(capsys.readouterr().out)["folder"]))
    assert version.manifest.version != dataset.manifest.version
    assert all(row.fields[0][0] == "customer" for row in read_split(version, "train"))


def test_a_folder_of_documents_goes_from_files_to_version_and_a_new_label_is_seen(capsys: Captured) -> None:
    folder = Path("letters")
    folder.mkdir()
    for n in range(240):
        (folder / f"{n:03}.txt").write_text(text(n))
    labels = [f"{n:03}.txt,{'ab'[n % 2]}\n" for n in range(240)]
    (folder / "labels.csv").write_text("file,kind\n" + "".join(labels))
    answer, said, dataset = new_and_data(capsys, "letters", "--target", "kind")
    assert answer["input"] == "text"
    assert "letters: read as 240 documents (text), labels from labels.csv" in said
    labels[0] = "000.txt,b\n"
    (folder / "labels.csv").write_text("file,kind\n" + "".join(labels))
    assert main(["data", "freeze", "mine/task.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["manifest"]["version"] != dataset.manifest.version


def test_preference_pairs_are_proposed_with_both_answers(capsys: Captured) -> None:
    rows = [{"prompt": text(n), "chosen": WORDS[n % 3], "rejected": WORDS[3 + n % 3]} for n in range(300)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer, _, dataset = new_and_data(capsys, "pairs.jsonl")
    assert (answer["input"], answer["target"], answer["rejected"]) == ("prompt", "chosen", "rejected")
    assert all(row.rejected in WORDS[3:6] for row in read_split(dataset, "train"))


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("rejected: label", "data.rejected: 'label' is read already"),
        ("fields: [a, a]", "data.fields: a column is named twice"),
        ("fields: a", 'found "a" (text), allowed: a list'),
    ],
)
def test_settings_that_make_no_sense_are_told(capsys: Captured, setting: str, told: str) -> None:
    rows = [{"text": text(n), "label": WORDS[n % 3]} for n in range(200)]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["new", "mine", "--data", "a.jsonl"]) == 0
    task_file = Path("mine/task.yaml")
    task_file.write_text(task_file.read_text().replace("  target: label", f"  target: label\n  {setting}"))
    assert main(["task", "check", "mine/task.yaml"]) == 2
    assert told in capsys.readouterr().err


def test_a_task_begun_from_data_with_broken_rows_leaves_these_out(capsys: Captured) -> None:
    rows = [json.dumps({"text": text(n), "label": WORDS[n % 3]}) for n in range(200)]
    Path("good.jsonl").write_text("\n".join(rows))
    assert main(["new", "good", "--data", "good.jsonl"]) == 0
    assert "\n  #unusable: refuse\n" in Path("good/task.yaml").read_text()
    assert "left out" not in capsys.readouterr().out
    rows[6], rows[9] = '{"text": "cut o', json.dumps({"text": "no label"})
    Path("a.jsonl").write_text("\n".join(rows))
    assert main(["new", "mine", "--data", "a.jsonl"]) == 0
    told = "2 rows that cannot be used of 200: a.jsonl:7, a.jsonl:10 (broken JSON at column 10"
    assert f"left out, as the task says with data.unusable: set_aside: {told}" in capsys.readouterr().out
    written = Path("mine/task.yaml").read_text()
    assert "\n  unusable: set_aside\n" in written
    assert f"Seen: {told}" in " ".join(written.replace("\n  # ", " ").split())
    assert main(["data", "freeze", "mine/task.yaml"]) == 0
    capsys.readouterr()
    assert main(["new", "tests", "--data", "good.jsonl", "--test", "a.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unusable"] == 2
    assert "\n  unusable: set_aside\n" in Path("tests/task.yaml").read_text()
    Path("bad.jsonl").write_text("\n".join([*rows[:7], *["{"] * 7]))
    assert main(["new", "bad", "--data", "bad.jsonl"]) == 2
    assert "8 of 14 rows cannot be used: 7, 8, 9" in capsys.readouterr().err
    assert not Path("bad").exists()


@pytest.mark.parametrize("command", ["new", "data"])
def test_hostile_files_end_in_one_message(capsys: Captured, command: str) -> None:
    rows = [{"text": text(n), "label": WORDS[n % 3]} for n in range(200)]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["new", "mine", "--data", "a.jsonl"]) == 0
    with Path("a.jsonl").open("a") as file:
        file.write('{"text": ' + "[" * 100_000 + "\n")
    capsys.readouterr()
    arguments = (
        ["new", "other", "--data", "a.jsonl"] if command == "new" else ["data", "freeze", "mine/task.yaml"]
    )
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert "a.jsonl:201: JSON that cannot be read: JSON nested deeper than 100 levels" in shown
    assert shown.count("error:") == shown.count("fix:") == 1
    assert not Path("other").exists()
    assert not list(Path("runs").rglob("*.parquet"))


def test_a_dataset_of_the_hub_is_refused_clearly_without_a_connection(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["new", "mine", "--data", "hub:owner/name"]) == 2
    assert "hub:owner/name: it could not be had from the Hub" in capsys.readouterr().err
