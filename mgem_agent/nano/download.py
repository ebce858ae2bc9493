"""Downloads one file, checks it, and resumes after an interruption.

Received bytes are kept in `NAME.part` until the checksum is right; then the file is renamed. A broken or slow
connection is retried from where it broke. A server without range requests starts again from the beginning.

For a file without a known checksum, `NAME.part.tag` holds the server's ETag. The download resumes only if the server
still has that version (`If-Range`), so that two versions are never joined.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from mgem_agent.errors import CheckpointError
from mgem_agent.tools.servers.http_exchange import Exchange
from mgem_agent.tools.servers.http_transport import bounded_client

__all__ = ["fetch_file", "http_client"]

_MAX_TRIES = 4
_FIRST_WAIT_S = 0.5
_TIMEOUT_S = 30.0
_MIN_BYTES_PER_S = 20_000
_MAX_HEAD_BYTES = 64 * 2**10
_MAX_PAGE_BYTES = 16 * 2**20
_MAX_FILE_BYTES = 2**42


class _Refused(Exception):
    """The server refused the file; a retry will not help."""


def http_client() -> httpx.Client:
    """Return an HTTP client with limits, which trusts the certificates of httpx, the system and pip's configuration."""
    context = httpx.create_ssl_context()
    context.load_default_certs()
    own = os.environ.get("PIP_CERT")
    if own and os.path.isfile(own):
        context.load_verify_locations(own)
    return bounded_client(timeout_s=_TIMEOUT_S, max_bytes=_MAX_PAGE_BYTES, verify=context, follow_redirects=True)


def fetch_file(
    url: str,
    path: Path,
    *,
    sha256: str | None,
    num_bytes: int | None,
    report: Callable[[int], None] = lambda done: None,
    advice: str = "",
    place: str = "MGEM_CACHE",
) -> Path:
    """Download a file, unless it exists.

    Args:
        url: Its address.
        path: Path of the file; its folder is created.
        sha256: Expected SHA-256, in hexadecimal; None if it is not known.
        num_bytes: Size in bytes; None if it is not known.
        report: Called with the number of bytes received so far.
        advice: A sentence that ends the error: where else to get the file.
        place: The setting or option that names the folder, for errors.

    Returns:
        The path.

    Raises:
        CheckpointError: If there is no network, the server refuses, the checksum is wrong, or the disk cannot be
            written. Received bytes of the right file are kept, and the next call resumes from there.
    """
    if path.is_file():
        return path
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _Download(url, part, sha256, num_bytes, report).run(advice)
        if sha256 is not None:
            _check(url, part, sha256, advice)
        os.replace(part, path)
        _tag_of(part).unlink(missing_ok=True)
    except OSError as error:
        advice_here = f"Change the permissions of that folder, or set {place} to another one."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            wanted = f"{num_bytes / 1e6:,.0f} MB" if num_bytes is not None else "space"
            advice_here = f"Free {wanted} there, or set {place} to a folder on another disk."
        raise CheckpointError(
            f"{path.name!r} cannot be written to {str(path.parent)!r}: {error.strerror or error}. {advice_here}"
        ) from error
    return path


@dataclass(frozen=True)
class _Download:
    """One file on its way.

    Args:
        url: Its address.
        part: File of the received bytes.
        sha256: The checksum; None if it is not known.
        num_bytes: The size; None if it is not known.
        report: Called with the number of bytes received so far.
    """

    url: str
    part: Path
    sha256: str | None
    num_bytes: int | None
    report: Callable[[int], None]

    def run(self, advice: str) -> None:
        """Receive the missing bytes, and retry if the connection breaks."""
        problem: Exception | None = None
        with http_client() as client:
            for number in range(_MAX_TRIES):
                if number:
                    time.sleep(_FIRST_WAIT_S * 2 ** (number - 1))
                try:
                    self._receive(client)
                    return
                except (httpx.TransportError, httpx.InvalidURL) as error:
                    problem = error
                except _Refused as error:
                    problem = error
                    break
        arrived = _size_of(self.part)
        total = "" if self.num_bytes is None else f" of {self.num_bytes:,}"
        kept = f" {arrived:,}{total} bytes are downloaded already, and the next try resumes from there."
        raise CheckpointError(
            f"{self.url!r} cannot be downloaded: {str(problem) or type(problem).__name__}.{kept if arrived else ''} "
            f"Check the network and its proxy and try again.{advice and f' {advice}'}"
        ) from problem

    def _start(self) -> tuple[int, dict[str, str]]:
        """Return the number of bytes that can be kept, and the headers that ask for the others."""
        start, tag = _size_of(self.part), _tag_of(self.part)
        version = tag.read_text(encoding="ascii") if tag.is_file() else ""
        is_unknown = self.sha256 is None and not version
        if start and (is_unknown or (self.num_bytes is not None and start > self.num_bytes)):
            self.part.unlink()
            start = 0
        if not start:
            return 0, {}
        return start, {"Range": f"bytes={start}-"} | ({"If-Range": version} if self.sha256 is None else {})

    def _receive(self, client: httpx.Client) -> None:
        start, headers = self._start()
        self.report(start)
        if start == self.num_bytes:
            return
        limit = _MAX_FILE_BYTES if self.num_bytes is None else self.num_bytes
        exchange = Exchange(timeout_s=_TIMEOUT_S, max_bytes=limit + _MAX_HEAD_BYTES)
        with client.stream("GET", self.url, headers=headers, extensions=exchange.extensions) as answer:
            given = answer.headers.get("Content-Range", "")
            if answer.status_code == 416 and given == f"bytes */{start}":
                return  # everything has arrived already
            if answer.status_code not in (200, 206):
                raise _Refused(f"the server answered {answer.status_code} {answer.reason_phrase}")
            goes_on = answer.status_code == 206 and given.startswith(f"bytes {start}-")
            if answer.status_code == 206 and not goes_on:
                raise _Refused(f"the server sent {given or None!r} for bytes {start}-")
            if self.sha256 is None and not goes_on:
                self._remember_version(answer)
            self._write(answer, exchange, start if goes_on else 0)

    def _remember_version(self, answer: httpx.Response) -> None:
        version = answer.headers.get("ETag", "")
        if version.startswith('"'):  # a weak tag does not promise the same bytes
            _tag_of(self.part).write_text(version, encoding="ascii", errors="ignore")
        else:
            _tag_of(self.part).unlink(missing_ok=True)

    def _write(self, answer: httpx.Response, exchange: Exchange, arrived: int) -> None:
        end = exchange.end
        with self.part.open("ab" if arrived else "wb") as file:
            for chunk in answer.iter_raw():  # write each piece at once, so that it is kept if the connection breaks
                file.write(chunk)
                arrived += len(chunk)
                # Received bytes extend the deadline, so a server that only drips times out.
                end += len(chunk) / _MIN_BYTES_PER_S
                exchange.end = end
                self.report(arrived)
                if self.num_bytes is not None and arrived > self.num_bytes:
                    break  # the checksum will show that it is another file
            file.flush()
            os.fsync(file.fileno())


def _check(url: str, part: Path, sha256: str, advice: str) -> None:
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        part.unlink()
        raise CheckpointError(
            f"What {url!r} gave is another file: its sha256 is {found}, and must be {sha256}. It was deleted. Try "
            f"again; if it comes again, a proxy or a mirror changes what it passes on.{advice and f' {advice}'}"
        )


def _tag_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _size_of(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
