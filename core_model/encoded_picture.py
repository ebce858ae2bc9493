"""Read the encoded bytes of one picture from a file, an open file or a data URL, up to a size limit.

Nothing is decoded here. A path that is not a regular file (a folder, a pipe, a device) is refused before it is read, so
that no read blocks. A file that is too large is refused by its size, before it is read or hashed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote_to_bytes

from mgem_agent.errors import ImageError

__all__ = [
    "MAX_ENCODED_BYTES",
    "WEB_ADDRESS",
    "as_subject",
    "base64_bytes",
    "check_encoded_size",
    "data_url_bytes",
    "file_hash",
    "is_data_url",
    "open_file",
    "read_file",
    "read_open_file",
    "shown",
]

MAX_ENCODED_BYTES = 80 * 2**20
"""Most bytes of an encoded picture in memory."""

MAX_FILE_BYTES = 300_000_000
"""Most bytes of a file that is read in pieces: enough for an incompressible PNG of `MAX_IMAGE_PIXELS`."""

MAX_URL_CHARS = MAX_ENCODED_BYTES * 3 // 2
"""Most characters of a data URL: base64 needs four per three bytes and may contain line breaks."""

MAX_URL_ESCAPES = 4_000_000
"""Most escapes (%2B) of a data URL. Base64 has few, and decoding each takes time."""

UNQUOTED_AT_ONCE = 2**20
WEB_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
WHITESPACE = b" \t\n\r\x0b\x0c"
MAX_NAME_CHARS = 120


def shown(name: str) -> str:
    """Return a name for a message: quoted, with control characters escaped, and truncated if long."""
    return repr(name) if len(name) <= MAX_NAME_CHARS else f"{name[:MAX_NAME_CHARS]!r}…"


def as_subject(name: str) -> str:
    """Return a name as the start of a sentence."""
    return name[0].upper() + name[1:]


def is_data_url(text: str) -> bool:
    """Whether text is a `data:` URL."""
    return text[:5].lower() == "data:"


def check_encoded_size(num_bytes: int, name: str, *, most: int) -> None:
    """Refuse an encoded picture that is too large.

    Args:
        num_bytes: Its size.
        name: Its name in a message.
        most: The limit in bytes.

    Raises:
        ImageError: If it is larger.
    """
    if num_bytes > most:
        raise ImageError(
            f"{as_subject(name)} has {num_bytes:,} bytes, and was not read. A picture may have at most "
            f"{most:,}. Scale it down, or save it as JPEG."
        )


@contextmanager
def open_file(path: str | os.PathLike[str], *, most: int = MAX_FILE_BYTES) -> Iterator[io.BufferedReader]:
    """Open a regular file.

    Args:
        path: Its path. Links are followed.
        most: The limit of its size in bytes.

    Raises:
        ImageError: If there is no such file, it is not a regular file, it is not readable, or it is too large.
    """
    text = os.fsdecode(path)
    name = shown(text)
    if WEB_ADDRESS.match(text):
        raise ImageError(f"{name} is a URL, and URLs are not downloaded here. Download the picture and give its path.")
    if os.path.isdir(text):
        raise ImageError(f"{name} is a folder, not a picture. Give the path of one file in it.")
    if not os.path.exists(text):
        raise ImageError(
            f"There is no file {name}, and it is not a data URL ('data:image/png;base64,…'). "
            f"Check the path and the current folder."
        )
    if not os.path.isfile(text):
        raise ImageError(f"{name} is not a regular file. Give the path of a picture.")
    try:
        # The path may name another file by now: check the open file again, and never block on it.
        handle = os.open(text, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except PermissionError as error:
        raise ImageError(
            f"{name} cannot be read: permission denied. Change its permissions, or give another file."
        ) from error
    except OSError as error:
        raise unreadable(name, error) from error
    with open(handle, "rb") as file:
        known = os.fstat(file.fileno())
        if not stat.S_ISREG(known.st_mode):
            raise ImageError(f"{name} is not a regular file. Give the path of a picture.")
        check_encoded_size(known.st_size, name, most=most)
        yield file


def unreadable(name: str, error: OSError) -> ImageError:
    """Return the error for a file that cannot be opened or read."""
    return ImageError(f"{name} cannot be read: {error.strerror or error}. Give another file.")


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Read the bytes of a file, at most `MAX_ENCODED_BYTES`; errors as for `open_file`."""
    name = shown(os.fsdecode(path))
    with open_file(path, most=MAX_ENCODED_BYTES) as file:
        try:
            data = file.read(MAX_ENCODED_BYTES + 1)  # a file may grow
        except OSError as error:
            raise unreadable(name, error) from error
    check_encoded_size(len(data), name, most=MAX_ENCODED_BYTES)
    return data


def file_hash(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, at most `MAX_FILE_BYTES`; errors as for `open_file`."""
    with open_file(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise unreadable(shown(os.fsdecode(path)), error) from error


def read_open_file(file: Any) -> bytes:
    """Read an open binary file from its current position.

    Args:
        file: Any object with `read`.

    Raises:
        ImageError: If it cannot be read, is open in text mode, or is too large.
    """
    try:
        data = file.read(MAX_ENCODED_BYTES + 1)
    except (OSError, ValueError) as error:  # closed, or open for writing
        raise ImageError("The open file cannot be read. Open it in binary mode ('rb').") from error
    if not isinstance(data, bytes):
        raise ImageError(f"The open file gave {type(data).__name__!r}, not bytes. Open it in binary mode ('rb').")
    check_encoded_size(len(data), "the open file", most=MAX_ENCODED_BYTES)
    return data


def data_url_bytes(url: str) -> bytes:
    """Return the bytes that a `data:` URL carries, percent-encoded or in base64.

    Args:
        url: The URL.

    Raises:
        ImageError: If it is not a data URL, is not valid base64, or is too large.
    """
    if len(url) > MAX_URL_CHARS:
        raise ImageError(
            f"The data URL has {len(url):,} characters, and was not read. It may have at most {MAX_URL_CHARS:,}. "
            f"Scale the picture down, or save it as JPEG."
        )
    comma = url.find(",")
    if comma < 0:
        raise ImageError("The data URL has no comma. Its form is 'data:image/png;base64,' followed by the data.")
    is_base64 = url[:comma].lower().endswith(";base64")
    data = _unquoted(url, comma + 1)
    if is_base64:
        data = base64_bytes(data, "data after 'base64,'")
    check_encoded_size(len(data), "the data URL", most=MAX_ENCODED_BYTES)
    return data


def base64_bytes(text: str | bytes, name: str) -> bytes:
    """Decode base64, which may contain line breaks.

    Args:
        text: The base64.
        name: Its name in a message.

    Raises:
        ImageError: If it is not valid base64, or too long.
    """
    if len(text) > MAX_URL_CHARS:
        raise ImageError(
            f"The {name} has {len(text):,} characters, and was not read. It may have at most {MAX_URL_CHARS:,}. "
            f"Scale the picture down, or save it as JPEG."
        )
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
    try:
        return base64.b64decode(raw.translate(None, WHITESPACE), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"The {name} is not valid base64. Encode the file's bytes with base64.b64encode.") from error


def _unquoted(url: str, start: int) -> bytes:
    """Return the text of a URL from an offset, with escapes decoded in pieces to save memory."""
    num_escapes = url.count("%", start)
    if num_escapes > MAX_URL_ESCAPES:
        raise ImageError(
            f"The data URL has {num_escapes:,} escapes such as '%20', and was not read. It may have at most "
            f"{MAX_URL_ESCAPES:,}. Encode the picture in base64."
        )
    if not num_escapes:
        return url[start:].encode("utf-8", "replace")
    return b"".join(unquote_to_bytes(piece) for piece in _pieces(url, start))


def _pieces(url: str, start: int) -> Iterator[bytes]:
    """Split text into pieces without splitting an escape."""
    while start < len(url):
        end = start + UNQUOTED_AT_ONCE
        last = url.rfind("%", max(end - 2, start), end)
        end = last if last > start else end
        yield url[start:end].encode("utf-8", "replace")
        start = end
