"""Fetching from a server on this machine: good, corrupt, missing, absent server."""

import hashlib
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kvsim.traces import CATALOGUE, FORMATS, PublicTrace, fetch, load_trace

CONTENT = b"arrived_at,num_prefill_tokens,num_decode_tokens\n" + b"0,3,4\n" * 30_000


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def base_url(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "good.csv").write_bytes(CONTENT)
    (folder / "corrupt.csv").write_bytes(CONTENT[:-1])
    (folder / "long.csv").write_bytes(b"x" * (1 << 21))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def entry(file_name: str) -> PublicTrace:
    return PublicTrace(
        repository="o/r",
        commit="c",
        path=f"data/{file_name}",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size_bytes=len(CONTENT),
        trace_format="vidur",
        licence="MIT",
    )


MINE = {name: entry(f"{name}.csv") for name in ("good", "corrupt", "long", "missing")}


def test_good_file(base_url: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = fetch(
        "good",
        directory=tmp_path / "new" / "folder",
        catalogue=MINE,
        base_url=base_url,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert path == tmp_path / "new" / "folder" / "good.csv"
    assert len(load_trace(path)) == 30_000
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert len(seen) > 1


def test_a_good_copy_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_bytes(CONTENT)
    nowhere = "http://127.0.0.1:9/"
    path = fetch("good", directory=tmp_path, catalogue=MINE, base_url=nowhere)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("corrupt", f"SHA-256 {hashlib.sha256(CONTENT[:-1]).hexdigest()}, expected "),
        ("missing", "HTTP Error 404"),
        ("long", f"longer than the {len(CONTENT)} bytes expected"),
    ],
)
def test_bad_downloads_leave_nothing(
    base_url: str, tmp_path: Path, name: str, message: str
) -> None:
    target = tmp_path / "target"
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        fetch(name, directory=target, catalogue=MINE, base_url=base_url)
    assert str(caught.value).startswith(name)
    assert not target.exists() or list(target.iterdir()) == []


def test_a_corrupt_download_does_not_harm_what_is_there(base_url: str, tmp_path: Path) -> None:
    (tmp_path / "corrupt.csv").write_text("mine")
    with pytest.raises(ValueError, match="SHA-256"):
        fetch("corrupt", directory=tmp_path, catalogue=MINE, base_url=base_url)
    assert (tmp_path / "corrupt.csv").read_text() == "mine"


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^good cannot be fetched from http://127\.0\.0\.1:9/"):
        fetch("good", directory=tmp_path, catalogue=MINE, base_url="http://127.0.0.1:9")


def test_folder_that_cannot_be(base_url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="cannot be written"):
        fetch("good", directory=tmp_path / "file", catalogue=MINE, base_url=base_url)


def test_unknown_name(tmp_path: Path) -> None:
    message = r"public trace\(=azure-conv\) must be one of .*did you mean azure-conv-2023\?"
    with pytest.raises(ValueError, match=message):
        fetch("azure-conv", directory=tmp_path)


@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue_entries_are_pinned(name: str) -> None:
    trace = CATALOGUE[name]
    assert re.fullmatch(r"[0-9a-f]{64}", trace.sha256)
    assert re.fullmatch(r"[0-9a-f]{40}", trace.commit)
    assert trace.trace_format in FORMATS
    assert trace.url.startswith("https://raw.githubusercontent.com/")
    assert trace.url.endswith("/" + trace.file_name)
