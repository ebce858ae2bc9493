"""Store the pictures of a request: uploaded files, data URLs, addresses, and ids.

A mask of OpenAI's API is transparent where the picture is redrawn; ours is white there. A mask without transparency is
taken as one of ours.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from mgem_agent.artifacts.named_picture import resolve_picture
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import InputError
from mgem_agent.server.http_errors import InvalidRequestError
from mgem_agent.server.picture_fetch import fetch_picture
from mgem_agent.server.pictures import ids_in_text

__all__ = ["keep_mask", "keep_picture"]

UPLOADED = "an uploaded picture"
MASK = "an uploaded mask"
REDRAWN = [255] * 128 + [0] * 128
"""White where alpha is low."""


def keep_picture(given: Any, store: ArtifactStore, *, param: str, allow_urls: bool = False) -> str:
    """Store a picture, and return its id.

    Args:
        given: Bytes, a data URL, an id, an address, or an object with `image_url` or `file_id`.
        store: The user's pictures.
        param: Name of the field, for messages.
        allow_urls: Whether pictures may be fetched from the web; those on this server always can.

    Raises:
        InputError: If it is not given in one of these ways, cannot be fetched, or is no picture.
    """
    found = _resolved(given, param, allow_urls)
    if isinstance(found, str):
        return store.get(found).id
    return store.put_picture(found, origin=UPLOADED, name=f"the picture in {param!r}").id


def keep_mask(given: Any, store: ArtifactStore, *, param: str = "mask", allow_urls: bool = False) -> str:
    """Store a mask, white where the picture is redrawn, and return its id; otherwise like `keep_picture`."""
    found = _resolved(given, param, allow_urls)
    if isinstance(found, str):
        return store.get(found).id
    mask = load_image(found)  # checks the cost before the alpha channel is read
    with Image.open(io.BytesIO(found)) as opened:
        if opened.has_transparency_data:
            alpha = opened.convert("RGBA").getchannel("A")
            if alpha.getextrema()[0] != 255:
                mask = alpha.point(REDRAWN).convert("RGB")
    return store.put_picture(mask, origin=MASK).id


def _resolved(given: Any, param: str, allow_urls: bool) -> bytes | str:
    """Return the bytes of a picture, or the id of a stored one."""
    if isinstance(given, (bytes, bytearray)):
        return bytes(given)
    if isinstance(given, Mapping):
        addresses = [given[key] for key in ("image_url", "file_id") if given.get(key) is not None]
        if len(addresses) != 1:
            raise InvalidRequestError(
                f"{param!r} has {len(addresses)} addresses of a picture. Give one: 'image_url' or 'file_id'.",
                param=param,
            )
        given = addresses[0]
    if not isinstance(given, str):
        raise InvalidRequestError(
            f"{param!r} is a {type(given).__name__!r}. Give a data URL ('data:image/png;base64,…') or the id of a "
            "stored picture ('img-…').",
            param=param,
        )
    own = ids_in_text(given)
    if not own and given.lower().startswith(("http://", "https://")):
        return fetch_picture(given, is_allowed=allow_urls, param=param)
    try:
        named = resolve_picture((own or [given])[0], allow_ids=True)
    except InputError as error:
        raise InvalidRequestError(str(error), param=param) from error
    return named.picture_id if named.picture_id is not None else named.data
