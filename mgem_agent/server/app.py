"""The application: all routes, one error handler, and the checks of `mgem_agent.server.security`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mgem_agent import __version__
from mgem_agent.errors import MgemError
from mgem_agent.server.chat_completions import chat_router
from mgem_agent.server.complete_streams import CompleteStreams
from mgem_agent.server.conversations import conversations_router
from mgem_agent.server.engines import engines_router
from mgem_agent.server.health import health_router
from mgem_agent.server.http_errors import InvalidRequestError, error_response
from mgem_agent.server.images import images_router
from mgem_agent.server.metrics import metrics_router
from mgem_agent.server.page.routes import page_router
from mgem_agent.server.pictures import picture_router
from mgem_agent.server.request_log import RequestLog
from mgem_agent.server.responses import responses_router
from mgem_agent.server.security import SecurityMiddleware
from mgem_agent.server.service import AgentService

__all__ = ["ROUTERS", "Mount", "create_app"]

ROUTERS: tuple[Callable[[AgentService], APIRouter], ...] = (
    health_router,
    picture_router,
    chat_router,
    images_router,
    responses_router,
    conversations_router,
    engines_router,
    page_router,
)
"""The routers of the server. Each is created with the service."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mount:
    """Routes of another application within the server, behind the same checks.

    Attributes:
        routes: The routes.
        lifespan: Entered while the server runs; None if it needs nothing.
        on_stop: Called when the server begins to stop, to end what would run on.
    """

    routes: Sequence[BaseRoute]
    lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None
    on_stop: Callable[[], object] | None = None


def create_app(service: AgentService, mounts: Sequence[Mount] = ()) -> FastAPI:
    """Return the application.

    Args:
        service: The parts of the server. They are closed when the application ends.
        mounts: Further applications.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(service.close)
            for each in mounts:
                if each.lifespan is not None:
                    await stack.enter_async_context(each.lifespan())
            yield

    app = FastAPI(title="mgem-agent", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.service = service
    for make_router in ROUTERS:
        app.include_router(make_router(service))
    app.include_router(metrics_router(service.metrics))
    for each in mounts:
        app.router.routes.extend(each.routes)
    app.add_exception_handler(MgemError, _our_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    max_body_bytes = int(service.settings.max_body_mb * 1_000_000)
    app.add_middleware(_UnexpectedErrors)
    app.add_middleware(SecurityMiddleware, access=service.access, max_body_bytes=max_body_bytes)
    if service.access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(service.access.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["retry-after", "x-request-id"],
        )
    app.add_middleware(CompleteStreams)
    app.add_middleware(RequestLog, metrics=service.metrics, tracing=service.tracing)
    return app


async def _our_error(request: Request, error: Exception) -> JSONResponse:
    return error_response(error)


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    """Report the first invalid field of a request."""
    found: Any = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    param = ".".join(str(part) for part in found.get("loc", ())[1:]) or None
    return error_response(InvalidRequestError(f"{param or 'The body'} is not valid: {found.get('msg')}.", param=param))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """Report an error of the framework, such as an unknown path."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else "The server failed"
    message = f"{request.method} {request.url.path[:200]}: {detail}. See the paths in docs/guides/server.md."
    told = {"message": message, "type": "invalid_request_error", "code": "unknown_path", "param": None}
    return JSONResponse({"error": told}, status, getattr(error, "headers", None))


class _UnexpectedErrors:
    """Answers a failure of our own with status 500, and logs it. Starlette would do so outside of all other checks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def noted(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            if scope["type"] != "http" or has_started:
                raise
            _log.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
            await error_response(error)(scope, receive, send)
