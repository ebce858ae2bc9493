"""Resolve a named picture to bytes or to the id of a stored picture, or refuse it.

A name is a string or an image block. It may come from an untrusted source: a user, an outer model, a chat server. One
function parses it, once; later code uses only the result.

- **Every unknown format is refused**: a block with two addresses, an address that is a block or not a string.
- **The caller decides what may be named**: ids with `allow_ids`, files with `read_file`. Data is always accepted, and
  nothing is downloaded.
- **A refusal does not access the disk**, so its message does not reveal whether a file exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mgem_agent.artifacts.picture_id import is_picture_id
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.core_model.encoded_picture import base64_bytes, data_url_bytes, is_data_url, shown
from mgem_agent.errors import InputError

__all__ = ["ORIGIN_OF_DATA", "resolve_picture"]

ReadFile = Callable[[str], bytes]
"""Reads the file of a name, or refuses it by an `InputError`."""

ADDRESS_KEYS = ("base64", "data", "file_id", "image_url", "source", "url")
"""Keys of an image block under which some format has a picture, or where it is."""

EMPTY = "An image block is empty. Give 'base64', a data 'url', or the 'file_id' of a stored picture."
ORIGIN_OF_DATA = "a picture given as data"


@dataclass(frozen=True, slots=True)
class NamedPicture:
    """The result of resolving a name: either an id or bytes.

    Attributes:
        picture_id: Id of a stored picture, or the beginning of one; None for bytes.
        data: Encoded bytes, not yet decoded.
        origin: Where they come from, in a few words.
    """

    picture_id: str | None
    data: bytes
    origin: str

    def keep(self, store: ArtifactStore) -> str:
        """Store the picture, and return its id.

        Args:
            store: Where pictures are kept.

        Raises:
            InputError: If the id is unknown.
            ImageError: If the bytes are not a picture.
        """
        if self.picture_id is not None:
            return store.get(self.picture_id).id
        name = None if self.origin == ORIGIN_OF_DATA else shown(self.origin)
        return store.put_picture(self.data, origin=self.origin, name=name).id


def resolve_picture(
    named: str | Mapping[str, Any], *, allow_ids: bool = False, read_file: ReadFile | None = None
) -> NamedPicture:
    """Resolve the name of a picture.

    Args:
        named: An id, a data URL, a path, or an image block in LangChain's or OpenAI's format.
        allow_ids: Whether stored pictures may be named.
        read_file: Reads files; None if files may not be named.

    Returns:
        An id or bytes.

    Raises:
        InputError: If the format is unknown, or an id or a file is not allowed.
        ImageError: If the data is not valid base64, or too large.
    """
    if isinstance(named, Mapping):
        block = dict(named)  # copied, because a mapping may return other values the next time
        key, address = _address(block)
        if key == "base64":
            return NamedPicture(None, base64_bytes(address, "base64 of an image block"), ORIGIN_OF_DATA)
        if key == "file_id" and not is_picture_id(address):
            raise InputError(f"The file_id {address[:80]!r} is not a picture id: 'img-' and hexadecimal digits.")
        named = address
    if not isinstance(named, str):
        raise InputError(f"A picture is named by a string or an image block, not by a {type(named).__name__!r}.")
    if is_data_url(named):
        return NamedPicture(None, data_url_bytes(named), ORIGIN_OF_DATA)
    if is_picture_id(named) and allow_ids:
        return NamedPicture(named, b"", "")
    if read_file is None:
        raise InputError("The picture is not given as data. Give 'base64', or a data URL ('data:image/png;base64,…').")
    return NamedPicture(None, read_file(named), named)


def _address(block: dict[Any, Any]) -> tuple[str, str]:
    """Return the only address of a block, and its kind: base64, file_id or url."""
    kind = block.get("type")
    if kind not in ("image", "image_url"):
        raise InputError(f"A block of type {str(kind)[:80]!r} is not a picture. Give a block of type 'image'.")
    given = {key: block[key] for key in ADDRESS_KEYS if block.get(key) not in (None, "")}
    if not given:
        raise InputError(EMPTY)
    if len(given) > 1:
        raise InputError(
            f"An image block has several addresses: {', '.join(map(repr, given))}. Give one: 'base64', a data 'url', "
            "or the 'file_id' of a stored picture."
        )
    [(key, address)] = given.items()
    if kind == "image_url" and key == "image_url":
        key, address = "url", _openai_address(address)
    elif key == "data" and block.get("source_type") == "base64":
        key = "base64"
    elif kind == "image_url" or key not in ("base64", "file_id", "url"):
        raise InputError(
            f"An image block of type {kind!r} has its picture under {key!r}, which is not supported. {EMPTY}"
        )
    if not isinstance(address, str):
        raise InputError(
            f"The {key!r} of an image block is a {type(address).__name__!r}. It must be a string: base64, a data URL, "
            "or the id of a stored picture."
        )
    return key, address


def _openai_address(address: Any) -> Any:
    """Return the address of a block in OpenAI's format: a string, or an object with `url` and at most `detail`."""
    if not isinstance(address, Mapping):
        return address
    inner = dict(address)
    if unknown := sorted(str(key)[:80] for key in inner if key not in ("url", "detail")):
        raise InputError(f"The 'image_url' of an image block has unknown keys: {', '.join(unknown[:5])}. Give 'url'.")
    return inner.get("url")
