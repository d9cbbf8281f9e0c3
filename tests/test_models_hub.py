"""Bases of the Hub come at a fixed revision, those with terms only once they were accepted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import make_tiny_base
from tunesmith.cli import main
from tunesmith.errors import UserError
from tunesmith.files import write_json
from tunesmith.models import hub
from tunesmith.models.catalog import Base, check_base, resolve_base

REVISION = "0123456789abcdef0123456789abcdef01234567"


def resolve(name: str, cache: Path) -> Base:
    return resolve_base(name, cache.parent, cache, lambda message: None)


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hub cache that holds one model at one revision, and no connection."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return make_tiny_base(cache / "models--acme--tiny" / "snapshots" / REVISION)


@pytest.mark.parametrize("name", ["acme/tiny", "acme/tiny@main", "acme/tiny@0123456"])
def test_a_hub_id_without_a_fixed_revision_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="names no fixed revision") as caught:
        resolve(name, tmp_path)
    assert "tunesmith base acme/tiny" in caught.value.fix


def test_what_was_fetched_is_pinned_by_its_content_and_used_offline(fetched: Path, tmp_path: Path) -> None:
    first = resolve(f"acme/tiny@{REVISION}", tmp_path / "cache")
    assert (first.name, first.folder) == ("tiny", str(fetched))
    assert first.origin == f"Hub acme/tiny at {REVISION}"
    assert resolve(f"acme/tiny@{REVISION}", tmp_path / "cache") == first
    with (fetched / "chat_template.jinja").open("a", encoding="utf-8") as stream:
        stream.write(" ")
    with pytest.raises(UserError, match="are not those first fetched"):
        resolve(f"acme/tiny@{REVISION}", tmp_path / "cache")


def test_a_base_whose_files_changed_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    base = resolve(str(make_tiny_base(tmp_path / "base")), tmp_path / "cache")
    check_base(base)
    (tmp_path / "base" / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="have changed"):
        check_base(base)


def test_a_base_with_terms_is_fetched_only_once_they_were_accepted(
    fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="Gemma Terms of Use, not yet accepted") as caught:
        resolve("gemma-3-270m-it", tmp_path / "cache")
    assert caught.value.fix.endswith("tunesmith base gemma-3-270m-it")
    # Shown, and not accepted: there is nobody to ask.
    assert main(["base", "gemma-3-270m-it"]) == 2
    shown = capsys.readouterr().err
    assert "https://ai.google.dev/gemma/terms" in shown
    assert "were not accepted, so nothing was fetched" in shown
    # Accepted, but the Hub cannot be asked: nothing is recorded.
    assert main(["base", "gemma-3-270m-it", "--accept-terms"]) == 2
    assert "google/gemma-3-270m-it could not be had from the Hub" in capsys.readouterr().err
    assert hub.accepted_terms("gemma-3-270m-it", tmp_path / "cache") is None
    # As it is once all of that went well.
    entry = hub.HUB_CATALOG["gemma-3-270m-it"]
    accepted = hub.Accepted("gemma-3-270m-it", entry.hub_id, REVISION, entry.terms, "2026-11-21T12:00:00")
    write_json(tmp_path / "cache" / "accepted-terms" / "gemma-3-270m-it.json", accepted)
    shutil.move(fetched.parents[1], tmp_path / "hub" / "models--google--gemma-3-270m-it")
    base = resolve("gemma-3-270m-it", tmp_path / "cache")
    assert base.name == "gemma-3-270m-it"
    assert base.licence == "Gemma Terms of Use, accepted 2026-11-21T12:00:00"
    assert base.origin == f"Hub google/gemma-3-270m-it at {REVISION}"


def test_a_hub_id_without_a_connection_gets_a_clear_message(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from tunesmith.errors import UserError
from tunesmith.models.catalog import resolve_base
try:
    resolve_base("nobody/no-such-model@{REVISION}", Path({str(tmp_path)!r}), Path({str(tmp_path)!r}), print)
except UserError as error:
    print(error)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert f"nobody/no-such-model@{REVISION[:12]} could not be had from the Hub" in done.stdout
    assert "fix: check the name and the connection" in done.stdout
    assert "Traceback" not in done.stderr
