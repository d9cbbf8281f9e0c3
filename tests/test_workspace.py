"""Where results lie, when they are reused, and that one task is run once at a time."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunesmith.errors import UserError
from tunesmith.workspace import TaskFolder, Workspace, cached, stage_key


@dataclass(frozen=True)
class Result:
    value: float
    names: tuple[str, ...]


RESULT = Result(0.1 + 0.2, ("a", "ü"))


def forbidden(folder: Path) -> Result:
    raise AssertionError("computed again")


def test_a_stored_result_is_not_computed_again(tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    assert cached(folder, Result, lambda _: RESULT) == (RESULT, False)
    assert cached(folder, Result, forbidden) == (RESULT, True)


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"value": "much", "names": []}', "\udcff"])
def test_a_broken_result_is_computed_again(tmp_path: Path, broken: str) -> None:
    (tmp_path / "result.json").write_text(broken, errors="surrogateescape")
    assert cached(tmp_path, Result, lambda _: RESULT) == (RESULT, False)
    assert cached(tmp_path, Result, forbidden) == (RESULT, True)


def test_an_interrupted_stage_is_not_done_and_finds_its_files_again(tmp_path: Path) -> None:
    def interrupted(folder: Path) -> Result:
        (folder / "half").write_text("work")
        raise KeyboardInterrupt

    def continued(folder: Path) -> Result:
        return Result(1.0, ((folder / "half").read_text(),))

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, Result, interrupted)
    assert not (tmp_path / "result.json").exists()
    assert cached(tmp_path, Result, continued) == (Result(1.0, ("work",)), False)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    for name in ("house/data/read.py", "house/data/deep/words.txt", "house/stats/mean.py", "house/files.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def key(sources: Path, stage: str = "data", inputs: object = ("x", 1)) -> str:
    return stage_key(stage, inputs, ["house.data", "house.files"], sources)


def test_the_key_of_a_stage_changes_with_its_name_and_inputs(sources: Path) -> None:
    assert key(sources) == key(sources, inputs=["x", 1])
    assert len({key(sources), key(sources, inputs=("x", 2)), key(sources, stage="plan")}) == 3


@pytest.mark.parametrize("name", ["house/data/read.py", "house/data/deep/words.txt", "house/files.py"])
def test_the_key_of_a_stage_changes_with_the_source_it_runs(sources: Path, name: str) -> None:
    before = key(sources)
    (sources / name).write_text("changed")
    changed = key(sources)
    assert changed != before
    (sources / name).write_text(name)
    assert key(sources) == before


def test_the_key_of_a_stage_ignores_other_source_and_compiled_files(sources: Path) -> None:
    before = key(sources)
    (sources / "house/stats/mean.py").write_text("changed")
    (sources / "house/data/__pycache__").mkdir()
    (sources / "house/data/__pycache__/read.pyc").write_text("compiled")
    (sources / "house/data/.read.py.swp").write_text("an editor's")
    assert key(sources) == before


def test_a_new_source_file_changes_the_key_and_an_unknown_package_is_an_error(sources: Path) -> None:
    before = key(sources)
    (sources / "house/data/new.py").write_text("")
    assert key(sources) != before
    with pytest.raises(ModuleNotFoundError, match=r"house\.dta"):
        stage_key("data", None, ["house.dta"], sources)


def test_the_own_packages_have_keys() -> None:
    assert stage_key("data", {}, ["tunesmith.data", "tunesmith.workspace"]) != stage_key("data", {}, [])


HOLDER = """
import sys
from pathlib import Path
from tunesmith.workspace import TaskFolder
with TaskFolder(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLDER, str(folder)]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_a_task_that_is_running_cannot_be_run_again_until_its_process_ends(tmp_path: Path) -> None:
    with hold(tmp_path) as process:
        said = f"process {process.pid} .* is running this task"
        with pytest.raises(UserError, match=said), TaskFolder(tmp_path).lock():
            pass
        process.kill()
        process.wait()
        with TaskFolder(tmp_path).lock():
            pass


def test_a_lock_is_let_go_after_an_error_and_tasks_do_not_hinder_each_other(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(RuntimeError), workspace.task("a").lock(), workspace.task("b").lock():
        raise RuntimeError
    with workspace.task("a").lock():
        pass


def test_a_folder_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    folder = Workspace(tmp_path / "runs").task("a")
    with pytest.raises(UserError, match="cannot write there"), folder.lock():
        pass


def test_a_copied_task_file_remembers_where_its_paths_start(tmp_path: Path) -> None:
    original = tmp_path / "mine" / "task.yaml"
    original.parent.mkdir()
    original.write_text("name: ü\n", encoding="utf-8")
    workspace = Workspace(tmp_path / "runs")
    assert workspace.names() == ()
    folder = workspace.task("a")
    assert folder.origin_folder() is None
    folder.keep_task_file(original)
    folder.keep_task_file(folder.task_file)
    assert folder.task_file.read_text(encoding="utf-8") == "name: ü\n"
    assert folder.origin_folder() == original.parent
    assert workspace.names() == ("a",)
