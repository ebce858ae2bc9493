"""The page at `/`: a chat, a gallery and a desk for stories, rendered on the server."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import FileResponse

from mgem_agent.errors import InputError
from mgem_agent.server.http_errors import UnauthorizedError
from mgem_agent.server.page.page_route import PageRoute, go_to
from mgem_agent.server.page.page_state import PageState
from mgem_agent.server.page.rendering import STATIC, html_response, render
from mgem_agent.server.page.routes_chat import chat_router
from mgem_agent.server.page.routes_gallery import gallery_router
from mgem_agent.server.page.routes_stories import story_router
from mgem_agent.server.security import COOKIE
from mgem_agent.server.service import AgentService

__all__ = ["page_router"]

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
FILES = {path.name: TYPES[path.suffix] for path in sorted(STATIC.iterdir()) if path.suffix in TYPES}


def page_router(service: AgentService) -> APIRouter:
    """Return all routes of the page.

    Args:
        service: The parts of the server.
    """
    page = PageState(service)
    router = APIRouter(include_in_schema=False)
    router.include_router(_own_router(page))
    router.include_router(chat_router(page))
    router.include_router(gallery_router(page))
    router.include_router(story_router(page))
    return router


def _own_router(page: PageState) -> APIRouter:
    """Return the routes of the static files and of the login."""
    router = APIRouter(route_class=PageRoute)
    access = page.service.access

    @router.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in FILES:
            raise InputError(f"There is no file {name[:80]!r}.")
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return FileResponse(STATIC / name, media_type=FILES[name], headers=headers)

    @router.get("/login")
    def login_form(request: Request) -> Response:
        return html_response(render("login.html", error="", user=None))

    @router.post("/login")
    def login(request: Request, token: Annotated[str, Form()] = "") -> Response:
        try:
            if access.needs_token:
                access.user_of_token(token.strip())
        except UnauthorizedError:
            message = "This is not the token. It was printed when the server started, or is in MGEM_SERVER_TOKEN."
            return html_response(render("login.html", error=message, user=None), 401)
        response = go_to(request, "/")
        is_https = request.url.scheme == "https"
        response.set_cookie(COOKIE, token.strip(), httponly=True, samesite="strict", secure=is_https)
        return response

    @router.post("/logout")
    def logout(request: Request) -> Response:
        response = go_to(request, "/login")
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    return router
