"""Fetching the files of sources: from the Hugging Face hub, over HTTP, and links to single pictures.

Downloads run in parallel, resume where they broke off, and are checked where a checksum is known: the manifest's, or
the one that the hub has of each large file. A failed file does not stop the others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import InputError, MgemError
from mgem_agent.nano.download import fetch_file
from mgem_agent.nano.language_model import is_offline
from mgem_agent.recipes.data.sources.archives import is_unpacked, unpack
from mgem_agent.recipes.data.sources.manifest import Manifest, SourceFile
from mgem_agent.redaction import redact
from mgem_agent.tools.servers.http_client import MAX_PICTURE_BYTES, ServerClient
from mgem_agent.tools.servers.web_address import PublicAddresses

__all__ = ["FileResult", "fetch_files", "fetch_pictures", "files_of", "state_of"]

FileState = Literal["here", "to fetch", "by hand", "failed"]

_LINK_TIMEOUT_S = 30.0
_SHA256 = re.compile("[0-9a-f]{64}")
_PUBLIC = PublicAddresses("", 0)


@dataclass(frozen=True)
class FileResult:
    """What became of a file.

    Args:
        file: The file.
        state: `here`, `to fetch`, `by hand` (a person must get it) or `failed`.
        message: Why it failed, or what a person must do.
    """

    file: SourceFile
    state: FileState
    message: str = ""


def files_of(sources: Iterable[Manifest], manifests: dict[str, Manifest]) -> list[SourceFile]:
    """Return the files that sources need, each once, including the pictures of other sources.

    Args:
        sources: The sources.
        manifests: All manifests.
    """
    found: dict[str, SourceFile] = {}
    for source in sources:
        others = [file for name in source.pictures_of for file in _pictures(manifests[name])]
        for file in (*source.files, *others):
            found.setdefault(file.to, file)
    return list(found.values())


def _pictures(source: Manifest) -> list[SourceFile]:
    """Return the files of a source that have pictures: archives that unpack outside `downloads`, and folders."""
    return [
        file for file in source.files if not (file.unpack or file.to).startswith("downloads/") or file.unpack == "."
    ]


def state_of(file: SourceFile, root: Path) -> FileState:
    """Return whether a file is here, unpacked if it is an archive.

    Args:
        file: The file.
        root: Root folder of the data.
    """
    path = root / file.to
    if file.unpack is not None:
        if is_unpacked(path, root / file.unpack):
            return "here"
        is_here = file.manual is not None and path.is_file()
        return "to fetch" if is_here or file.manual is None else "by hand"
    if path.is_dir():
        return "here" if any(path.iterdir()) else "by hand"
    return "here" if path.is_file() else "by hand" if file.manual is not None else "to fetch"


def fetch_files(
    files: Sequence[SourceFile], root: Path, *, num_parallel: int, report: Callable[[str], None], endpoint: str | None
) -> list[FileResult]:
    """Fetch and unpack files.

    Args:
        files: The files.
        root: Root folder of the data.
        num_parallel: Maximum number of files at a time.
        report: Called with a line for each file.
        endpoint: Address of the hub; None for the usual one.

    Returns:
        What became of each, in order.
    """
    results: dict[str, FileResult] = {}
    with ThreadPoolExecutor(num_parallel) as pool:
        running = {pool.submit(_fetch, file, root, endpoint): file for file in files}
        for future in as_completed(running):
            result = future.result()
            results[result.file.to] = result
            report(f"{result.state}: {result.file.to}" + (f": {result.message}" if result.message else ""))
    return [results[file.to] for file in files]


def _fetch(file: SourceFile, root: Path, endpoint: str | None) -> FileResult:
    state = state_of(file, root)
    if state == "here":
        return FileResult(file, "here")
    if state == "by hand":
        return FileResult(file, "by hand", f"{file.manual} Place: {str(root / file.to)!r}")
    path = root / file.to
    try:
        if not path.is_file():
            _download(file, path, endpoint)
        if file.unpack is not None:
            unpack(path, root / file.unpack, strip=file.strip, flat=file.flat)
    except MgemError as error:
        return FileResult(file, "failed", str(error))
    return FileResult(file, "here")


def _download(file: SourceFile, path: Path, endpoint: str | None) -> None:
    if is_offline():
        raise InputError(f"{file.to!r} is missing, and MGEM_OFFLINE or HF_HUB_OFFLINE forbids downloads.")
    if file.url is not None:
        fetch_file(file.url, path, sha256=file.sha256, num_bytes=file.num_bytes, place="--root")
    else:
        _download_from_hub(file, path, endpoint)


def _download_from_hub(file: SourceFile, path: Path, endpoint: str | None) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    place = path.parent / ".hub" / path.name  # the hub's own file name and folders
    names: dict[str, Any] = {"repo_type": "dataset", "endpoint": endpoint}
    try:
        url = hf_hub_url(str(file.hub), str(file.path), **names)
        etag = get_hf_file_metadata(url, endpoint=endpoint).etag or ""
        received = Path(hf_hub_download(str(file.hub), str(file.path), local_dir=place, **names))
    except (HfHubHTTPError, httpx.HTTPError, OSError, ValueError) as error:
        raise InputError(
            f"{file.origin} cannot be fetched: {redact(str(error).splitlines()[0])}. If its page {_page(file)} asks "
            "you to accept terms, do so and run: hf auth login. Received bytes are kept; run the command again to "
            "continue."
        ) from error
    wanted = file.sha256 or (etag if _SHA256.fullmatch(etag) else None)
    if wanted is not None:
        with received.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if found != wanted:
            received.unlink()
            raise InputError(f"{file.origin} has the sha256 {found}, expected {wanted}. It was deleted; try again.")
    received.replace(path)


def _page(file: SourceFile) -> str:
    return f"https://huggingface.co/datasets/{file.hub}"


def fetch_pictures(
    links: Iterable[tuple[str, Path]],
    *,
    num_parallel: int,
    public: PublicAddresses | None = None,
    timeout_s: float = _LINK_TIMEOUT_S,
) -> dict[Path, str]:
    """Fetch pictures from links that a data set contains, and never from private addresses.

    Args:
        links: Each address, and the file that the picture goes to; existing files are kept.
        num_parallel: Maximum number of links at a time.
        public: The allowed addresses; None for the public internet.
        timeout_s: Seconds for one picture.

    Returns:
        Why a picture could not be fetched, by its file.
    """
    wanted = [(url, path) for url, path in links if not path.is_file()]
    with ThreadPoolExecutor(num_parallel) as pool:
        reasons = pool.map(lambda link: _fetch_picture(link[0], link[1], public or _PUBLIC, timeout_s), wanted)
        return {path: reason for (_, path), reason in zip(wanted, reasons, strict=True) if reason}


def _fetch_picture(url: str, path: Path, public: PublicAddresses, timeout_s: float) -> str:
    """Fetch a picture and return an empty string, or why it cannot be fetched."""
    try:
        target = httpx.URL(url)
        root = str(target.copy_with(raw_path=b"/", username=None, password=None, fragment=None))
        client = ServerClient(root, server="The server of the picture", timeout_s=timeout_s, max_retries=1)
        answer = client.request(
            "GET",
            target.raw_path.decode("ascii"),
            max_bytes=MAX_PICTURE_BYTES,
            follow_redirects=True,
            public=public,
        )
        load_image(answer.body)
    except (MgemError, httpx.InvalidURL, ValueError) as error:
        return redact(str(error))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(answer.body)
    part.replace(path)
    return ""
