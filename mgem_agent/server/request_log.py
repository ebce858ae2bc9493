"""Log, count and trace each HTTP request. Its id is in the header `x-request-id`.

A line has the method, the route, the status and the seconds. It never has a query, a body or a token.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import uuid
from datetime import UTC, datetime
from typing import Any, Literal

from opentelemetry.trace import Span, use_span
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mgem_agent.redaction import redact
from mgem_agent.server.metrics import Metrics
from mgem_agent.server.tracing import Tracing, end_span

__all__ = ["JsonFormatter", "RequestLog", "configure_log"]

QUIET_ROUTES = ("/health", "/metrics")
"""Routes that monitoring asks every few seconds; their lines are logged at DEBUG."""

FIELDS = ("request_id", "method", "route", "status", "seconds", "user", "trace_id")

_log = logging.getLogger("mgem_agent.server.requests")


class RequestLog:
    """The outermost part of the application.

    Args:
        app: The application.
        metrics: Counts requests.
        tracing: Makes spans.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, tracing: Tracing) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note how it ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, request_id = time.monotonic(), f"req-{uuid.uuid4().hex}"
        status = 499  # unless a response begins, the client has disconnected
        span = self._tracing.request_span(scope["method"], Headers(scope=scope))

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                message = {**message, "headers": headers}
            await send(message)

        error: BaseException | None = None
        try:
            if self._tracing.is_on:
                with use_span(span):
                    await self._app(scope, receive, noted)
            else:
                await self._app(scope, receive, noted)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._note(scope, request_id, status, time.monotonic() - started, span)
            end_span(span, error)

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float, span: Span) -> None:
        route = _route(scope)
        self._metrics.requests.labels(scope["method"], route, str(status)).inc()
        self._metrics.request_s.labels(route).observe(seconds)
        span.update_name(f"{scope['method']} {route}")
        span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        level = logging.DEBUG if route in QUIET_ROUTES else logging.INFO
        if not _log.isEnabledFor(level):
            return
        user = getattr(scope.get("state", {}).get("user"), "name", None)
        context = span.get_span_context()
        fields: dict[str, Any] = {
            "request_id": request_id,
            "method": scope["method"],
            "route": route,
            "status": status,
            "seconds": round(seconds, 4),
            "user": user,
            "trace_id": f"{context.trace_id:032x}" if context.is_valid else None,
        }
        _log.log(level, "%s %s %d %.3fs", scope["method"], route, status, seconds, extra=fields)


def _route(scope: Scope) -> str:
    """Return the template of a request's path, so that ids make no new label."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) and path else "unknown"


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        line |= {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=True, default=str)


class _TextFormatter(logging.Formatter):
    """Writes a record as one readable line, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def configure_log(form: Literal["text", "json", "none"]) -> None:
    """Send the log of this package and of uvicorn to stderr.

    Args:
        form: `text`, `json` with one object per line, or `none` for warnings only, as text.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else _TextFormatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("mgem_agent", "uvicorn"):
        log = logging.getLogger(name)
        log.handlers = [handler]
        log.setLevel(logging.WARNING if form == "none" else logging.INFO)
        log.propagate = False
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its lines on starting say what the ready line says
