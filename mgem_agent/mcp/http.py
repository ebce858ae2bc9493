"""Serve MCP over streamable HTTP: as an application to mount, or on a port of its own.

Decisions that matter:

- **Loopback needs no token; any other address does**: `MGEM_SERVER_TOKEN`, or one that is made and printed once.
- **Host and Origin are checked** by the SDK, so that a web page cannot reach the server under a name of its own.
- A host that mounts the application has its own checks; they are left to it.
"""

from __future__ import annotations

import hmac
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from mcp.server.transport_security import TransportSecuritySettings

from mgem_agent.errors import InputError
from mgem_agent.mcp.parts import McpParts
from mgem_agent.mcp.server import PartsOf, make_server
from mgem_agent.redaction import remember_secret
from mgem_agent.tools.servers.web_address import is_this_machine

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["MAX_BODY_BYTES", "PATH", "BearerToken", "mcp_app", "read_address", "serve_http"]

PATH = "/mcp"
MAX_BODY_BYTES = 64_000_000
TOKEN_VARIABLE = "MGEM_SERVER_TOKEN"
MIN_TOKEN_CHARS = 16
GRACE_S = 5
"""Seconds that running requests have to finish when the server is stopped."""

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def mcp_app(
    parts: McpParts | PartsOf,
    *,
    path: str = PATH,
    max_body_bytes: int = MAX_BODY_BYTES,
    security: TransportSecuritySettings | None = None,
) -> Starlette:
    """Return the server as an ASGI application with one route.

    The host must run the application's lifespan, which a mounted application does not do by itself:
    `async with app.router.lifespan_context(app): ...`. When it begins to stop, it calls `app.state.end_streams()`, so
    that open streams of notices do not delay it.

    Args:
        parts: The parts of the server, or a function that returns those of the user that a request comes from. One user
            must get the same `books` each time.
        path: Path of the route.
        max_body_bytes: Maximum size of a request.
        security: Allowed hosts and origins; None if the host of the application checks them.
    """
    server = make_server(parts)
    app = server.streamable_http_app(
        streamable_http_path=path,
        max_request_body_size=max_body_bytes,
        transport_security=security or TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    app.state.end_streams = server.end_streams
    return app


def read_address(text: str) -> tuple[str, int]:
    """Read an address such as `127.0.0.1:8766`, `[::1]:8766` or `:8766`.

    Args:
        text: Host and port; without a host it is loopback.

    Raises:
        InputError: If there is no valid port.
    """
    host, colon, port = text.strip().rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise InputError(f"{text!r} is not an address. Give HOST:PORT, such as 127.0.0.1:8766.")
    return host.strip("[]") or "127.0.0.1", int(port)


class BearerToken:
    """Passes on requests with a token; others get status 401.

    Args:
        app: The application.
        token: The token.
    """

    def __init__(self, app: Any, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if scope["type"] != "http" or hmac.compare_digest(given, self._expected):
            await self._app(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        body = b'{"error": "The request has no valid token. Send the header Authorization: Bearer TOKEN."}'
        await send({"type": "http.response.body", "body": body})


def serve_http(parts: McpParts, host: str, port: int, *, on_start: Callable[[str, str | None], None]) -> None:
    """Serve on a port until SIGINT or SIGTERM.

    Args:
        parts: The parts of the server.
        host: Address to listen on. Any but loopback needs a token.
        port: Port; 0 for any free one.
        on_start: Called with the server's address, and the token if one was made for it.

    Raises:
        InputError: If the token is too short, or the address cannot be used.
    """
    import uvicorn

    from mgem_agent.mcp.stopping_server import StoppingServer
    from mgem_agent.server.complete_streams import CompleteStreams

    token, made = _token(host)
    is_local = is_this_machine(host)
    names = ["127.0.0.1", "localhost", "[::1]"] if is_local else []
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=is_local,
        allowed_hosts=[f"{name}:*" for name in names],
        allowed_origins=[f"http://{name}:*" for name in names],
    )
    app: Any = mcp_app(parts, security=security)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(
            f"The address {_shown(host)}:{port} cannot be used: {error.strerror or error}. Choose another one."
        ) from error
    checked: Any = app if token is None else BearerToken(app, token)
    with listening:
        config = uvicorn.Config(
            CompleteStreams(checked),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        on_start(f"http://{_shown(host)}:{listening.getsockname()[1]}{PATH}", made)
        StoppingServer(config, app.state.end_streams).run(sockets=[listening])


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _token(host: str) -> tuple[str | None, str | None]:
    """The token that requests need, and the same if it was made here."""
    given = os.environ.get(TOKEN_VARIABLE, "")
    if given:
        if len(given) < MIN_TOKEN_CHARS:
            raise InputError(f"{TOKEN_VARIABLE} is too short. Use at least {MIN_TOKEN_CHARS} characters.")
        remember_secret(given)
        return given, None
    if is_this_machine(host):
        return None, None
    made = secrets.token_urlsafe(32)
    return made, made
