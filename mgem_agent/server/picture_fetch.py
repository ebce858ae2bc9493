"""Fetch pictures from web addresses in requests, where that is allowed, and never from private addresses."""

from __future__ import annotations

import threading

import httpx

from mgem_agent.errors import GenerationCancelledError, ToolError
from mgem_agent.redaction import redacted_start
from mgem_agent.server.http_errors import InvalidRequestError
from mgem_agent.tools.servers.http_client import MAX_PICTURE_BYTES, ServerClient
from mgem_agent.tools.servers.web_address import PublicAddresses

__all__ = ["fetch_picture"]

TIMEOUT_S = 20.0
NO_OWN_SERVER = PublicAddresses("", 0)
"""Lets connections through to the open internet only: names are looked up once, and that address is connected to."""


def fetch_picture(url: str, *, is_allowed: bool, cancel: threading.Event | None = None, param: str) -> bytes:
    """Return the bytes at a web address.

    Args:
        url: The address.
        is_allowed: Whether the server's settings allow it.
        cancel: Set to give it up.
        param: The field of the request, for errors.

    Raises:
        InvalidRequestError: If it is not allowed, no web address, private, too large, or cannot be fetched.
        GenerationCancelledError: If it was cancelled.
    """
    shown = redacted_start(url, 120)
    if not url.lower().startswith(("http://", "https://")):
        raise InvalidRequestError(
            f"{shown!r} is not the address of a picture. Give a data URL ('data:image/png;base64,…'), or the address "
            "of a picture on this server.",
            param=param,
        )
    if not is_allowed:
        raise InvalidRequestError(
            f"This server does not fetch pictures from the web: {shown!r}. Send the picture as a data URL "
            "('data:image/png;base64,…'), or allow addresses: mgem config set server.allow_urls true",
            param=param,
        )
    try:
        target = httpx.URL(url)
        root = str(target.copy_with(raw_path=b"/", username=None, password=None, fragment=None))
        client = ServerClient(root, server="The server of the picture", timeout_s=TIMEOUT_S, max_retries=1)
        answer = client.request(
            "GET",
            target.raw_path.decode("ascii"),
            cancel=cancel,
            max_bytes=MAX_PICTURE_BYTES,
            follow_redirects=True,
            public=NO_OWN_SERVER,
        )
    except GenerationCancelledError:
        raise
    except (ToolError, ValueError, httpx.InvalidURL) as error:
        raise InvalidRequestError(f"The picture {shown!r} cannot be fetched: {error}", param=param) from error
    return answer.body
