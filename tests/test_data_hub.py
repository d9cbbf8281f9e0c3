"""Datasets of the Hub, against a small server on this machine that answers as the Hub does."""

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CODE = """
import json, sys
from pathlib import Path
from tunesmith.data.sources import SourceSpec, read_source
from tunesmith.errors import UserError
spec = SourceSpec(None, (sys.argv[1],), None, "text", "label", None, None, None, None)
try:
    source = read_source(spec, Path(sys.argv[2]))
    first = source.rows[0]
    print(json.dumps([len(source.rows), first.source, [file.name for file in source.files], source.notes]))
except UserError as error:
    print(json.dumps([error.what, error.fix]))
"""


def table(first: int) -> bytes:
    rows = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(first, first + 60)]
    stream = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


FILES = {
    "data/train-00000-of-00002.parquet": table(0),
    "data/train-00001-of-00002.parquet": table(100),
    "data/test-00000-of-00001.parquet": table(200),
}


class _Hub(BaseHTTPRequestHandler):
    """The two questions that a download asks: which files has the dataset, and one of them."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        content = b'{"error": "Repository not found"}'
        status, headers = 404, {"X-Error-Code": "RepoNotFound"}
        if path.startswith("/api/datasets/owner/name"):
            files = [{"rfilename": name} for name in FILES]
            content = json.dumps({"id": "owner/name", "sha": COMMIT, "siblings": files}).encode()
            status, headers = 200, {}
        elif path.startswith(f"/datasets/owner/name/resolve/{COMMIT}/"):
            content = FILES[path.split(f"{COMMIT}/")[1]]
            etag = hashlib.sha256(content).hexdigest()
            status, headers = 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def read(entry: str, cache: Path, endpoint: str) -> list[Any]:
    settings = {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    settings |= {"NO_PROXY": "127.0.0.1", "HF_HOME": str(cache / "home")}
    done = subprocess.run(
        [sys.executable, "-c", CODE, entry, str(cache)],
        capture_output=True,
        text=True,
        env={**os.environ, **settings},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    answer: list[Any] = json.loads(done.stdout)
    return answer


def test_the_parquet_files_of_one_part_are_read_at_a_recorded_revision(tmp_path: Path, hub: str) -> None:
    rows, source, files, notes = read("hub:owner/name/data/train", tmp_path, hub)
    assert rows == 120
    assert files == [f"hub:owner/name@0123456789ab/data/train-0000{n}-of-00002.parquet" for n in (0, 1)]
    assert source == f"{files[0]}:1"
    assert notes[0] == (
        f"hub:owner/name/data/train: 2 Parquet files of revision {COMMIT}; to keep to it, write "
        f"hub:owner/name/data/train@{COMMIT}"
    )
    # Nobody answers now; what was fetched is read when its revision is named, and only then.
    nobody = "http://127.0.0.1:9"
    assert read(f"hub:owner/name/data/train@{COMMIT}", tmp_path, nobody)[:3] == [120, source, files]
    what, fix = read("hub:owner/name/data/train", tmp_path, nobody)
    assert what.startswith("hub:owner/name/data/train: it could not be had from the Hub: ")
    assert "data.path" in fix


def test_several_splits_are_not_mixed(tmp_path: Path, hub: str) -> None:
    what, fix = read("hub:owner/name", tmp_path, hub)
    assert what == "hub:owner/name: this dataset has several parts: data/test, data/train"
    assert fix == "Name one of them, for example hub:owner/name/data/test"
    what, _ = read("hub:owner/name/data/dev", tmp_path, hub)
    assert what.endswith("begins with 'data/dev' (found: data/test, data/train)")


def test_what_is_not_on_the_hub_is_told(tmp_path: Path, hub: str) -> None:
    what, _ = read("hub:nobody/nothing", tmp_path, hub)
    assert what.startswith("hub:nobody/nothing: the Hub has no such dataset or revision")
    what, fix = read("hub:nothing", tmp_path, hub)
    assert what == "hub:nothing: not a dataset on the Hub"
    assert "hub:owner/name" in fix
