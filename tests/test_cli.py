"""The command line: what it says to people and to scripts, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import tunesmith
from tunesmith import ledger
from tunesmith.cli import build, main
from tunesmith.cli.options import find_task
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

Captured = pytest.CaptureFixture[str]
COMMAND = [sys.executable, "-c", "import sys; from tunesmith.cli import main; sys.exit(main())"]


@pytest.fixture
def tickets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data file of 200 rows in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNESMITH_RUNS", raising=False)
    rows = [{"text": f"ticket number {i}", "label": "ab"[i % 2], "id": i} for i in range(200)]
    path = tmp_path / "tickets.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def task_file(tickets: Path, capsys: Captured) -> Path:
    assert main(["new", "tickets", "--data", "tickets.jsonl"]) == 0
    capsys.readouterr()
    return Path("tickets/task.yaml")


def answer(capsys: Captured) -> Any:
    return json.loads(capsys.readouterr().out)


def leaves(command: Any) -> Iterator[Any]:
    if hasattr(command, "commands"):
        for inner in command.commands.values():
            yield from leaves(inner)
    else:
        yield command


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from tunesmith.cli import main; code = main(['--help'])\n"
        "heavy = 'torch transformers pydantic sklearn scipy numpy matplotlib pyarrow rich yaml'.split()\n"
        "print(sorted(set(heavy) & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert "ledger" in done.stdout


def test_version(capsys: Captured) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tunesmith {tunesmith.__version__}\n"


def test_every_command_has_json_and_a_help_that_fits() -> None:
    commands = list(leaves(typer.main.get_command(build())))
    assert len(commands) >= 5
    for command in commands:
        assert any("--json" in option.opts for option in command.params), command.name
        assert "..." not in command.get_short_help_str(60), command.name


@pytest.mark.parametrize(
    "arguments", [["nwe"], ["new"], ["task"], ["task", "check", "--jsn", "x"], ["ledger", "show"]]
)
def test_a_wrong_command_line_ends_with_2_and_a_fix(arguments: list[str], capsys: Captured) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert "\nfix:   `tunesmith" in shown.err


def test_errors_are_one_message_for_people_and_one_object_for_scripts(
    tickets: Path, capsys: Captured
) -> None:
    Path("task.yaml").write_text("name: My Task\n")
    assert main(["task", "check", "task.yaml", "--json"]) == 2
    shown = capsys.readouterr()
    error = json.loads(shown.out)
    assert set(error) == {"error", "fix"}
    assert "task.yaml:1: name: found" in error["error"]
    assert "Traceback" not in shown.err
    assert "\x1b" not in shown.err
    assert shown.err.count("error:") == shown.err.count("fix:") == 1
    assert main(["task", "check", "task.yaml"]) == 2
    assert capsys.readouterr().out == ""


def test_new_writes_a_task_that_loads_and_a_schema(tickets: Path, capsys: Captured) -> None:
    arguments = ["new", "mine", "--data", "tickets.jsonl", "--input", "text", "--target", "label", "--json"]
    assert main(arguments) == 0
    result = answer(capsys)
    assert (result["rows"], result["labels"], result["input"], result["target"]) == (200, 2, "text", "label")
    task = load_task(Path(result["task_file"]))
    assert (task.name, task.data.path) == ("mine", "../tickets.jsonl")
    assert [path.resolve() for path in task.data_paths] == [tickets]
    assert "properties" in json.loads(Path(result["schema_file"]).read_text())
    assert main(["task", "check", result["task_file"]]) == 0


def test_new_takes_a_test_file_a_base_and_an_absolute_path(tickets: Path, capsys: Captured) -> None:
    Path("test.csv").write_text("text,label,id\n" + "a question,a,1\n" * 60)
    assert (
        main(["new", "mine", "--data", str(tickets), "--test", "test.csv", "--base", "./my base.gguf"]) == 0
    )
    task = load_task(Path("mine/task.yaml"))
    assert (task.data.path, task.data.test_path) == (str(tickets), "../test.csv")
    assert (task.split.test, task.base) == (None, "./my base.gguf")
    assert "Seen: 60 rows." in Path("mine/task.yaml").read_text()


def test_new_reads_conversations(tickets: Path, capsys: Captured) -> None:
    turns = [
        [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "xy"[i % 2]}]
        for i in range(120)
    ]
    Path("chats.jsonl").write_text("".join(json.dumps({"chat": turn}) + "\n" for turn in turns))
    assert main(["new", "mine", "--data", "chats.jsonl", "--json"]) == 0
    assert answer(capsys)["labels"] == 2
    assert load_task(Path("mine/task.yaml")).data.messages == "chat"


def test_new_never_overwrites_a_task(task_file: Path, capsys: Captured) -> None:
    task_file.write_text("mine")
    assert main(["new", "tickets", "--data", "tickets.jsonl"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert task_file.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "told", "fix"),
    [
        (["mine", "--data", "nothing.jsonl"], "nothing.jsonl", ""),
        (["My Task", "--data", "tickets.jsonl"], "cannot name a task", "lower-case"),
        (["mine", "--data", "tickets.jsonl", "--target", "lable"], "no column 'lable'", "--target label"),
        (["mine", "--data", "odd.jsonl"], "which column the model is given?", "--input"),
        (["mine", "--data", "odd.jsonl", "--input", "p"], "which column holds the answer?", "--target"),
    ],
)
def test_new_explains_what_it_cannot_use_and_leaves_nothing_behind(
    tickets: Path, capsys: Captured, arguments: list[str], told: str, fix: str
) -> None:
    odd = [{"p": f"some words {i}", "q": f"other words {i}", "r": "ab"[i % 2]} for i in range(120)]
    Path("odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in odd))
    before = sorted(Path().iterdir())
    assert main(["new", *arguments, "--json"]) == 2
    error = answer(capsys)
    assert told in error["error"]
    assert fix in error["fix"]
    assert sorted(Path().iterdir()) == before


def test_task_check_shows_the_settings_and_misses_the_data_file(task_file: Path, capsys: Captured) -> None:
    assert main(["task", "check", str(task_file), "--json"]) == 0
    assert answer(capsys)["data"]["input"] == "text"
    Path("tickets.jsonl").unlink()
    assert main(["task", "check", str(task_file)]) == 2
    assert "there is no file" in capsys.readouterr().err


def test_task_schema_is_json(capsys: Captured) -> None:
    assert main(["task", "schema"]) == 0
    plain = answer(capsys)
    assert main(["task", "schema", "--json"]) == 0
    assert plain == answer(capsys)


def test_a_ledger_is_shown_and_verified_by_name_and_by_file(task_file: Path, capsys: Captured) -> None:
    folder = Workspace(Path("runs")).task("tickets")
    folder.keep_task_file(task_file)
    ledger.append(folder.ledger, "frozen", {"version": "3f9c"})
    last = ledger.append(folder.ledger, "verdict", {"decision": "TRAIN"})
    for name in ("tickets", "tickets/task.yaml", "runs/tickets/task.yaml"):
        assert main(["ledger", "verify", name, "--json"]) == 0
        assert answer(capsys) == {"ledger": "runs/tickets/ledger.jsonl", "lines": 2, "hash": last.hash}
    assert main(["ledger", "show", "tickets", "--json"]) == 0
    assert [line["event"] for line in answer(capsys)["lines"]] == ["frozen", "verdict"]
    assert main(["ledger", "show", "tickets"]) == 0
    assert "3f9c" in capsys.readouterr().out


def test_an_edited_ledger_fails_verification_with_exit_code_1(task_file: Path, capsys: Captured) -> None:
    path = Workspace(Path("runs")).task("tickets").ledger
    ledger.append(path, "frozen", {"version": "3f9c"})
    path.write_text(path.read_text().replace("3f9c", "4f9c"))
    assert main(["ledger", "verify", "tickets", "--json"]) == 1
    assert "line 1 was edited" in answer(capsys)["error"]


def test_results_are_found_in_the_folder_that_is_named(
    task_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    ledger.append(Workspace(Path("a")).task("tickets").ledger, "frozen", {})
    assert main(["ledger", "verify", "tickets"]) == 2
    assert main(["ledger", "verify", "tickets", "--runs", "a"]) == 0
    monkeypatch.setenv("TUNESMITH_RUNS", "a")
    assert main(["ledger", "verify", "tickets"]) == 0


def test_an_unknown_task_gets_the_nearest_name(task_file: Path, capsys: Captured) -> None:
    Workspace(Path("runs")).task("tickets").keep_task_file(task_file)
    assert main(["ledger", "show", "tickts", "--json"]) == 2
    assert answer(capsys)["fix"] == "did you mean tickets?"


def test_a_task_found_by_name_reads_its_data_from_where_its_file_lay(task_file: Path) -> None:
    Workspace(Path("runs")).task("tickets").keep_task_file(task_file)
    for name in ("tickets", "runs/tickets/task.yaml", "tickets/task.yaml"):
        found = find_task(name, Path("runs"))
        assert [path.resolve() for path in found.task.data_paths] == [Path("tickets.jsonl").resolve()]
        assert found.folder.path == Path("runs/tickets")


def test_ctrl_c_says_how_to_continue(tmp_path: Path) -> None:
    fifo = tmp_path / "task.yaml"
    os.mkfifo(fifo)
    command = [*COMMAND, "task", "check", str(fifo)]
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process,
        fifo.open("w"),  # opens only when the command has begun to read
    ):
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said == "stopped; run the same command to continue\n"


def test_a_closed_pipe_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, "task", "schema"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
