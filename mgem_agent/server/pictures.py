"""`GET /pictures/{id}`: a picture of a user's store, by its id.

The address contains a signature instead of a token, because browsers load pictures without one. A picture never changes
under its id, so it may be cached for good.
"""

from __future__ import annotations

import asyncio
import re

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from mgem_agent.artifacts.picture_id import is_picture_id
from mgem_agent.errors import InputError
from mgem_agent.server.http_errors import NotFoundError
from mgem_agent.server.service import AgentService

__all__ = ["ids_in_text", "picture_router"]

HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",  # a client's web page shows it from its own address
    "X-Content-Type-Options": "nosniff",
}
ADDRESS = re.compile(r"/pictures/(img-[0-9a-f]{4,64})\b")


def picture_router(service: AgentService) -> APIRouter:
    """Return the route of pictures.

    Args:
        service: The parts of the server.
    """
    router = APIRouter()

    @router.get("/pictures/{picture_id}", response_class=FileResponse)
    async def picture(request: Request, picture_id: str, key: str = "") -> FileResponse:
        user = service.picture_owner(picture_id, key, request)
        if not is_picture_id(picture_id):
            raise NotFoundError(f"{picture_id[:80]!r} is not a picture id. An id is 'img-' and hexadecimal digits.")
        try:
            path = await asyncio.to_thread(service.store(user).path, picture_id)
        except InputError:
            raise NotFoundError(f"There is no picture {picture_id!r}.") from None
        return FileResponse(
            path,
            media_type="image/png",
            headers=HEADERS,
            filename=f"{path.stem}.png",
            content_disposition_type="inline",
        )

    return router


def ids_in_text(text: str) -> list[str]:
    """Return the ids of the pictures whose addresses on this server a text contains, in order.

    Args:
        text: Markdown, or an address.

    Examples:
        >>> ids_in_text("![a fox](http://127.0.0.1:8765/pictures/img-0123456789ab?key=00)")
        ['img-0123456789ab']
    """
    return list(dict.fromkeys(ADDRESS.findall(text)))
