"""How the routes of the page answer: errors as HTML in place, and changes only from the page itself.

A form is sent by htmx if the browser runs scripts, and as a normal form otherwise. htmx puts an error next to the form,
whose input is kept; without scripts, the error is a page of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from mgem_agent.errors import InputError, MgemError
from mgem_agent.redaction import redact
from mgem_agent.server.http_errors import ForbiddenError, error_body
from mgem_agent.server.page.rendering import html_response, render

__all__ = ["PageRoute", "go_to", "is_htmx"]

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_log = logging.getLogger(__name__)


def is_htmx(request: Request) -> bool:
    """Whether htmx sent a request, so that a part of a page is the answer."""
    return request.headers.get("hx-request") == "true"


def go_to(request: Request, address: str) -> Response:
    """Return the response that shows another page after a form was sent.

    Args:
        request: The form's request.
        address: Address of the page on this server.
    """
    if not is_htmx(request):
        return RedirectResponse(address, status_code=303)
    current = urlsplit(request.headers.get("hx-current-url", "")).path
    # An address that differs in its fragment alone would not load the page again.
    is_here = current == urlsplit(address).path
    return Response(status_code=200, headers={"HX-Refresh": "true"} if is_here else {"HX-Redirect": address})


class PageRoute(APIRoute):
    """A route whose errors are HTML, and whose changes come from this server's own pages."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler with these checks."""
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            try:
                _check_origin(request)
                return await handle(request)
            except RequestValidationError as error:
                first = error.errors()[0]
                name = ".".join(str(part) for part in first.get("loc", ())[1:]) or "The form"
                return _error(request, InputError(f"{name} is not valid: {first.get('msg')}."))
            except MgemError as error:
                return _error(request, error)
            except Exception as error:
                _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
                return _error(request, error)

        return checked


def _check_origin(request: Request) -> None:
    """Refuse a change that another page asks for, even one that may use the API."""
    if request.method in SAFE_METHODS:
        return
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    is_other = site not in (None, "same-origin", "none")
    if origin is not None and origin != "null":
        is_other = is_other or urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower()
    if is_other or origin == "null":
        raise ForbiddenError("Another web page sent this form. Open the page of this server, and send the form there.")


def _error(request: Request, error: Exception) -> Response:
    status, body = error_body(error)
    message = str(body["error"]["message"])
    if isinstance(error, InputError) and message.startswith("There is no "):
        status = 404
    if is_htmx(request):
        text = render("_alert.html", message=redact(message))
        return html_response(text, status, HX_Retarget="#alerts", HX_Reswap="innerHTML")
    return html_response(render("error.html", message=redact(message), status=status, user=None), status)
