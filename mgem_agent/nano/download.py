"""Downloads one file, checks it, and resumes after an interruption.

Received bytes are kept in `NAME.part` until the checksum is right; then the file is renamed. A broken or slow
connection is retried from where it broke. A server without range requests starts again from the beginning.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable
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
    sha256: str,
    num_bytes: int,
    report: Callable[[int], None] = lambda done: None,
    advice: str = "",
) -> Path:
    """Download a file, unless it exists.

    Args:
        url: Its address.
        path: Path of the file; its folder is created.
        sha256: Expected SHA-256, in hexadecimal.
        num_bytes: Size in bytes.
        report: Called with the number of bytes received so far.
        advice: A sentence that ends the error: where else to get the file.

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
        _receive_all(url, part, num_bytes, report, advice)
        _check(url, part, sha256, advice)
        os.replace(part, path)
    except OSError as error:
        advice_here = "Change the permissions of that folder, or set MGEM_CACHE to another one."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice_here = f"Free {num_bytes / 1e6:,.0f} MB there, or set MGEM_CACHE to a folder on another disk."
        raise CheckpointError(
            f"{path.name!r} cannot be written to {str(path.parent)!r}: {error.strerror or error}. {advice_here}"
        ) from error
    return path


def _receive_all(url: str, part: Path, num_bytes: int, report: Callable[[int], None], advice: str) -> None:
    """Receive the missing bytes, and retry if the connection breaks."""
    problem: Exception | None = None
    with http_client() as client:
        for number in range(_MAX_TRIES):
            if number:
                time.sleep(_FIRST_WAIT_S * 2 ** (number - 1))
            try:
                _receive(client, url, part, num_bytes, report)
                return
            except (httpx.TransportError, httpx.InvalidURL) as error:
                problem = error
            except _Refused as error:
                problem = error
                break
    arrived = _size_of(part)
    kept = f" {arrived:,} of {num_bytes:,} bytes are downloaded already, and the next try resumes from there."
    raise CheckpointError(
        f"{url!r} cannot be downloaded: {str(problem) or type(problem).__name__}.{kept if arrived else ''} "
        f"Check the network and its proxy and try again.{advice and f' {advice}'}"
    ) from problem


def _receive(client: httpx.Client, url: str, part: Path, num_bytes: int, report: Callable[[int], None]) -> None:
    start = _size_of(part)
    if start > num_bytes:
        part.unlink()
        start = 0
    report(start)
    if start == num_bytes:
        return
    headers = {"Range": f"bytes={start}-"} if start else {}
    exchange = Exchange(timeout_s=_TIMEOUT_S, max_bytes=num_bytes + _MAX_HEAD_BYTES)
    end = exchange.end
    with client.stream("GET", url, headers=headers, extensions=exchange.extensions) as answer:
        if answer.status_code not in (200, 206):
            raise _Refused(f"the server answered {answer.status_code} {answer.reason_phrase}")
        goes_on = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if answer.status_code == 206 and not goes_on:
            raise _Refused(f"the server sent {answer.headers.get('Content-Range')!r} for bytes {start}-")
        arrived = start if goes_on else 0
        with part.open("ab" if goes_on else "wb") as file:
            for chunk in answer.iter_raw():  # write each piece at once, so that it is kept if the connection breaks
                file.write(chunk)
                arrived += len(chunk)
                end += (
                    len(chunk) / _MIN_BYTES_PER_S
                )  # received bytes extend the deadline, so a server that only drips times out
                exchange.end = end
                report(arrived)
                if arrived > num_bytes:
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


def _size_of(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
