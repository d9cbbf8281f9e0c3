"""Wheels are fetched once, and never used with a wrong checksum."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tunesmith
from tunesmith.errors import UserError
from tunesmith.wheels import cache_folder, fetch_wheel

NAME = "tiny_data-1.0-py3-none-any.whl"
WRONG = "0" * 64


def build_wheel(folder: Path) -> str:
    """A wheel that pip accepts, with one data file; returns its SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / NAME, "w") as wheel:
        wheel.writestr("tiny_data/rows.txt", "a row\n")
        wheel.writestr(
            "tiny_data-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n"
        )
        wheel.writestr(
            "tiny_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tiny_data-1.0.dist-info/RECORD", "")
    return hashlib.sha256((folder / NAME).read_bytes()).hexdigest()


@pytest.fixture
def offline_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder that pip downloads from instead of a package index; returns the wheel's SHA-256."""
    sha256 = build_wheel(tmp_path / "index")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return sha256


def test_a_wheel_is_downloaded_once_and_then_found_in_the_cache(
    tmp_path: Path, offline_index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    cache = tmp_path / "cache"
    wheel = fetch_wheel("tiny-data==1.0", offline_index, cache, said.append)
    assert wheel == cache / "wheels" / NAME
    assert said == ["downloading tiny-data==1.0"]
    assert [file.name for file in (cache / "wheels").iterdir()] == [NAME]
    monkeypatch.delenv("PIP_FIND_LINKS")  # from here on a download would fail
    assert fetch_wheel("tiny-data==1.0", offline_index, cache) == wheel


def test_a_download_with_a_wrong_checksum_is_not_used(tmp_path: Path, offline_index: str) -> None:
    with pytest.raises(UserError, match="checksum does not match") as caught:
        fetch_wheel("tiny-data==1.0", WRONG, tmp_path / "cache")
    assert NAME in caught.value.what
    assert WRONG in caught.value.what
    assert offline_index in caught.value.what
    assert not list((tmp_path / "cache" / "wheels").glob("*.whl"))


def test_a_cached_wheel_that_was_changed_is_refused_and_downloaded_anew(
    tmp_path: Path, offline_index: str
) -> None:
    folder = tmp_path / "cache" / "wheels"
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(b"something else")
    with pytest.raises(UserError, match="checksum does not match"):
        fetch_wheel("tiny-data==1.0", offline_index, tmp_path / "cache")
    assert (folder / f"{NAME}.rejected").read_bytes() == b"something else"
    assert fetch_wheel("tiny-data==1.0", offline_index, tmp_path / "cache") == folder / NAME


def test_a_failed_download_says_what_to_run_and_where_to_put_the_wheel(
    tmp_path: Path, offline_index: str
) -> None:
    with pytest.raises(UserError, match=r"no-such-data==9\.9 could not be downloaded: ERROR") as caught:
        fetch_wheel("no-such-data==9.9", WRONG, tmp_path / "cache")
    assert "pip download --no-deps" in caught.value.fix
    assert str(tmp_path / "cache" / "wheels") in caught.value.fix
    assert "TUNESMITH_CACHE" in caught.value.fix
    assert not list((tmp_path / "cache" / "wheels").iterdir())


def test_an_environment_without_pip_gets_a_clear_message(tmp_path: Path) -> None:
    source = Path(tunesmith.__file__).parents[1]
    script = f"""
import sys; sys.path.insert(0, {str(source)!r})
from pathlib import Path
from tunesmith.errors import UserError
from tunesmith.wheels import fetch_wheel
try:
    fetch_wheel("tiny-data==1.0", {WRONG!r}, Path({str(tmp_path)!r}))
except UserError as error:
    print(error)
"""
    # -S leaves site-packages out, and pip with them.
    printed = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True)
    assert "this environment has no pip" in printed.stdout
    assert "fix: Run `pip download" in printed.stdout


def test_a_requirement_without_an_exact_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one exact version"):
        fetch_wheel("tiny-data>=1.0", WRONG, tmp_path)


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("TUNESMITH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "tunesmith"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "tunesmith"
