"""A file from a server that behaves, breaks off, cannot go on, sends other bytes, or is not there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.errors import CheckpointError
from mgem_agent.nano import download
from mgem_agent.nano.download import fetch_file

CONTENT = bytes(range(256)) * 64
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Gives CONTENT, as `manner` says, and remembers the ranges that were asked for."""

    manner = "good"
    version = "v1"
    daemon_threads = True
    asked: list[str | None]
    over: threading.Event

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.whl"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Any

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        wanted, manner = self.headers.get("Range"), self.server.manner
        self.server.asked.append(wanted)
        if manner == "missing":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and manner != "no ranges" else 0
        body = CONTENT[start:] if manner != "other bytes" else b"x" * len(CONTENT)
        if start and self.headers.get("If-Range", '"v1"') != f'"{self.server.version}"':
            start, body = 0, CONTENT  # another version: everything again
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{self.server.version}"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if manner == "drips":
            with contextlib.suppress(OSError):
                while not self.server.over.wait(0.02):
                    self.wfile.write(b"x")
            return
        if manner == "in pieces":
            for start in range(0, len(CONTENT), 4096):
                self.wfile.write(CONTENT[start : start + 4096])
                self.server.over.wait(0.1)
            return
        breaks_off = manner == "always breaks" or (manner == "breaks once" and len(self.server.asked) == 1)
        self.wfile.write(body[: len(body) // 2] if breaks_off else body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "_FIRST_WAIT_S", 0.0)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        server.over = threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def fetch(server: Server, path: Path, **options: Any) -> Path:
    return fetch_file(server.url, path, sha256=SHA256, num_bytes=len(CONTENT), **options)


def test_it_is_fetched_once(server: Server, tmp_path: Path) -> None:
    seen: list[int] = []
    path = fetch(server, tmp_path / "new" / "file.whl", report=seen.append)
    assert path.read_bytes() == CONTENT
    assert (seen[0], seen[-1]) == (0, len(CONTENT))
    fetch(server, path)
    assert server.asked == [None]
    assert [file.name for file in path.parent.iterdir()] == ["file.whl"]


def test_a_connection_that_breaks_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.manner = "breaks once"
    assert fetch(server, tmp_path / "file.whl").read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={len(CONTENT) // 2}-"]


def test_what_an_earlier_program_left_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.manner = "always breaks"
    with pytest.raises(
        CheckpointError, match=r"cannot be downloaded: .* bytes are downloaded already, and the next try resumes"
    ):
        fetch(server, tmp_path / "file.whl")
    arrived = (tmp_path / "file.whl.part").stat().st_size
    assert 0 < arrived < len(CONTENT) and not (tmp_path / "file.whl").exists()
    server.manner, server.asked = "good", []
    assert fetch(server, tmp_path / "file.whl").read_bytes() == CONTENT
    assert server.asked == [f"bytes={arrived}-"]


def test_a_server_without_ranges_starts_afresh(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.whl.part").write_bytes(CONTENT[:100])
    server.manner = "no ranges"
    assert fetch(server, tmp_path / "file.whl").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"", CONTENT[:50], b"y" * len(CONTENT), CONTENT + b"more"])
def test_other_bytes_are_refused_and_not_kept(server: Server, tmp_path: Path, left: bytes) -> None:
    if left:
        (tmp_path / "file.whl.part").write_bytes(left)
    server.manner = "other bytes"
    with pytest.raises(
        CheckpointError, match=r"gave is another file: its sha256 is [0-9a-f]{64}, and must be .* It was deleted\."
    ):
        fetch(server, tmp_path / "file.whl")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_refuses_is_asked_once(server: Server, tmp_path: Path) -> None:
    server.manner = "missing"
    with pytest.raises(
        CheckpointError, match=r"cannot be downloaded: the server answered 404 Not Found\. Check the network"
    ):
        fetch(server, tmp_path / "file.whl")
    assert len(server.asked) == 1


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_FIRST_WAIT_S", 0.0)
    told = r"^'http://127\.0\.0\.1:9/a\.whl' cannot be downloaded: .* Check the network and its proxy and try again\."
    for advice, end in (("", ""), ("Ask a friend.", r" Ask a friend\.")):
        with pytest.raises(CheckpointError, match=f"{told}{end}$"):
            fetch_file("http://127.0.0.1:9/a.whl", tmp_path / "a.whl", sha256=SHA256, num_bytes=1, advice=advice)


def test_a_full_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(
        CheckpointError,
        match=r"^'file\.whl' cannot be written to '.*': No space left on device\. Free 0 MB there, or set MGEM_CACHE",
    ):
        fetch(server, tmp_path / "file.whl")
    assert not (tmp_path / "file.whl").exists()


def test_a_server_that_drips_is_given_up(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_TIMEOUT_S", 0.1)
    server.manner = "drips"
    began = time.monotonic()
    with pytest.raises(CheckpointError, match=r"cannot be downloaded: The deadline for the answer has passed\."):
        fetch(server, tmp_path / "file.whl")
    assert time.monotonic() - began < 30


def test_a_large_file_may_take_longer_than_a_small_one(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_TIMEOUT_S", 0.2)
    monkeypatch.setattr(download, "_MIN_BYTES_PER_S", 10_000)
    server.manner = "in pieces"
    assert fetch(server, tmp_path / "file.whl").read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_a_file_without_a_checksum_resumes_only_in_the_same_version(server: Server, tmp_path: Path) -> None:
    options: dict[str, Any] = {"sha256": None, "num_bytes": None}
    server.manner = "breaks once"
    assert fetch_file(server.url, tmp_path / "a", **options).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={len(CONTENT) // 2}-"]
    server.manner = "always breaks"
    with pytest.raises(CheckpointError, match="bytes are downloaded already"):
        fetch_file(server.url, tmp_path / "b", **options)
    server.manner, server.version = "good", "v2"
    assert fetch_file(server.url, tmp_path / "b", **options).read_bytes() == CONTENT
    (tmp_path / "c.part").write_bytes(b"of unknown origin")
    assert fetch_file(server.url, tmp_path / "c", **options).read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
