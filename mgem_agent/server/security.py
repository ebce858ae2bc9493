"""Who may send what: tokens, host names, origins, and the size of a request.

- **Loopback needs no token; any other address does.** Without `MGEM_SERVER_TOKEN` or a token file, one is made and
  printed once.
- **A token names a user**, whose sessions and pictures nobody else sees.
- **The host name is checked**, so that a web page cannot reach a loopback server under a name of its own (DNS
  rebinding). The origin is checked, so that a web page cannot send requests in the user's name.
- **A picture's address is a capability**: browsers load pictures without a token, so the address has a signature made
  from the token.
- **The body is limited before it is read**, by its announced size and by the bytes that arrive.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mgem_agent.errors import InputError
from mgem_agent.redaction import remember_secret
from mgem_agent.server.http_errors import (
    ForbiddenError,
    RequestTooLargeError,
    ServerError,
    UnauthorizedError,
    error_response,
)
from mgem_agent.server_settings import ServerSettings
from mgem_agent.tools.servers.web_address import is_this_machine
from mgem_agent.user_files import read_user_file

__all__ = ["COOKIE", "LOCAL_USER", "Access", "SecurityMiddleware", "User", "open_access"]

TOKEN_VARIABLE = "MGEM_SERVER_TOKEN"
COOKIE = "mgem_token"
MIN_TOKEN_CHARS = 16
MAX_TOKEN_FILE_BYTES = 1_000_000
SIGNATURE_CHARS = 32
OPEN_PATHS = ("/health", "/login")
OPEN_FOLDERS = ("/pictures/", "/static/")
"""Paths that need no token: what they return is the same for everybody, but a picture, which checks its signature."""
LOGIN_PATH = "/login"

SECURITY_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


@dataclass(frozen=True, slots=True)
class User:
    """A user of the server.

    Attributes:
        name: Name for logs.
        namespace: Where the user's sessions and pictures are; empty for this machine's user, who shares them with the
            command line.
    """

    name: str
    namespace: str = ""


LOCAL_USER = User("local")


@dataclass(frozen=True)
class Access:
    """Who may use the server, and under which names.

    Attributes:
        users: Users by token; empty if no token is required.
        hosts: Allowed host names besides IP addresses.
        only_loopback: Whether only loopback addresses are allowed as host.
        origins: Allowed origins of web pages, besides the server's own.
        made_token: The token that was made for this run, to be printed once; None if it was given.
    """

    users: Mapping[str, User] = field(default_factory=dict, repr=False)
    hosts: frozenset[str] = frozenset()
    only_loopback: bool = True
    origins: frozenset[str] = frozenset()
    made_token: str | None = field(default=None, repr=False)

    @property
    def needs_token(self) -> bool:
        """Whether requests need a token."""
        return bool(self.users)

    def user_of(self, connection: HTTPConnection) -> User:
        """Return the user of a request, by its bearer token or by the page's cookie.

        Raises:
            UnauthorizedError: If a token is required and there is no valid one.
        """
        if not self.users:
            return LOCAL_USER
        kind, _, given = connection.headers.get("authorization", "").partition(" ")
        token = given.strip() if kind.lower() == "bearer" else connection.cookies.get(COOKIE, "")
        return self.user_of_token(token)

    def user_of_token(self, token: str) -> User:
        """Return the user of a token; a wrong one takes as long as a right one.

        Raises:
            UnauthorizedError: If it is not valid.
        """
        found = None
        for known, user in self.users.items():
            if hmac.compare_digest(known.encode(), token.encode("utf-8", "surrogatepass")):
                found = user
        if found is None:
            what = "The token of the request is not valid" if token else "The request has no token"
            raise UnauthorizedError(f"{what}. Send the header 'Authorization: Bearer TOKEN' (the API key of a client).")
        return found

    def sign(self, user: User, picture_id: str) -> str:
        """Return the signature of a picture's address; empty if no token is required."""
        token = next((token for token, known in self.users.items() if known == user), None)
        return "" if token is None else _signature(token, picture_id)

    def owner_of(self, picture_id: str, signature: str) -> User | None:
        """Return the user whose signature an address of a picture has; None if it has none that is valid."""
        found = None
        for token, user in self.users.items():
            if hmac.compare_digest(_signature(token, picture_id).encode(), signature.encode("utf-8", "surrogatepass")):
                found = user
        return found

    def check_host(self, host: str) -> None:
        """Check the host name of a request.

        Raises:
            ForbiddenError: If the server is not reached under this name.
        """
        name = _host_name(host)
        if name in self.hosts:
            return
        if self.only_loopback:
            is_allowed = is_this_machine(name)
        else:
            is_allowed = is_this_machine(name) or _is_address(name)
        if not is_allowed:
            raise ForbiddenError(
                f"The host name {name[:200]!r} is not allowed. Allow it: mgem config set server.allowed_hosts "
                f"'[\"{name[:200]}\"]'"
            )

    def check_origin(self, origin: str | None, host: str) -> None:
        """Check the web page that a request comes from; programs send no origin.

        Raises:
            ForbiddenError: If it is a page of another server that is not allowed.
        """
        if origin is None or origin in self.origins:
            return
        parts = urlsplit(origin)
        if parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower():
            return
        raise ForbiddenError(
            f"Requests from the web page {origin[:200]!r} are not allowed. Allow it: mgem config set "
            f"server.allowed_origins '[\"{origin[:200]}\"]'"
        )


def open_access(settings: ServerSettings) -> Access:
    """Return who may use a server with these settings.

    Args:
        settings: `host`, `token_file`, `allowed_hosts` and `allowed_origins` are used, and `MGEM_SERVER_TOKEN`.

    Raises:
        InputError: If a token is too short, or the token file is not valid.
    """
    users = _users_of(settings.token_file)
    own = os.environ.get(TOKEN_VARIABLE, "")
    if own:
        users[_checked_token(own, TOKEN_VARIABLE)] = LOCAL_USER
    only_loopback = is_this_machine(settings.host)
    made = None
    if not users and not only_loopback:
        made = secrets.token_urlsafe(32)
        users[made] = LOCAL_USER
    for token in users:
        remember_secret(token)
    hosts = {host.lower() for host in settings.allowed_hosts}
    if settings.public_url is not None:
        hosts.add(urlsplit(settings.public_url).hostname or "")
    if not only_loopback:
        hosts |= {settings.host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
    origins = frozenset(origin.rstrip("/") for origin in settings.allowed_origins)
    return Access(users, frozenset(hosts), only_loopback, origins, made)


def _users_of(path: Path | None) -> dict[str, User]:
    """Read a token file: a TOML table of tokens by user name."""
    if path is None:
        return {}
    try:
        named = tomllib.loads(read_user_file(path, "The token file", max_bytes=MAX_TOKEN_FILE_BYTES))
    except FileNotFoundError:
        raise InputError(f'There is no token file {str(path)!r}. Create it, with lines like: alice = "…"') from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"The token file {str(path)!r} is not valid TOML: {error}.") from None
    users: dict[str, User] = {}
    for name, token in named.items():
        if not isinstance(token, str):
            raise InputError(f'The token of {name!r} in {str(path)!r} is not a string. Write: {name} = "…"')
        token = _checked_token(token, f"{name!r} in {str(path)!r}")
        if token in users:
            raise InputError(f"{users[token].name!r} and {name!r} in {str(path)!r} have the same token. Change one.")
        if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii() or len(name) > 64:
            raise InputError(f"The user name {name[:80]!r} is not valid. Use 1 to 64 letters, digits, '-' and '_'.")
        users[token] = User(name, name)
    return users


def _checked_token(token: str, where: str) -> str:
    if len(token) < MIN_TOKEN_CHARS or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            f"The token of {where} is not valid. Use at least {MIN_TOKEN_CHARS} ASCII characters without spaces. "
            "Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return token


def _signature(token: str, picture_id: str) -> str:
    return hmac.new(token.encode(), f"picture {picture_id}".encode(), hashlib.sha256).hexdigest()[:SIGNATURE_CHARS]


def _host_name(host: str) -> str:
    """Return the name of a Host header, without the port and the brackets of an IPv6 address."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class SecurityMiddleware:
    """Checks the host, the origin, the token and the size of each request, and adds security headers.

    Args:
        app: The application.
        access: Who may use the server.
        max_body_bytes: Maximum size of a request.
    """

    def __init__(self, app: ASGIApp, *, access: Access, max_body_bytes: int) -> None:
        self._app = app
        self._access = access
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with an error."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # the server has no websockets
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        body = _LimitedBody(receive, self._max_body_bytes)
        answer = _Answer(send, body)
        try:
            token = self._page_token(connection)
            self._check(connection, has_token=token is not None)
        except ServerError as error:
            wants_login = isinstance(error, UnauthorizedError) and _is_page_load(connection)
            response = RedirectResponse(LOGIN_PATH, status_code=303) if wants_login else error_response(error)
            await response(scope, receive, answer.send)
            return
        if token is not None:
            await _logged_in(connection, token)(scope, receive, answer.send)
            return
        await self._app(scope, body.receive, answer.send)
        if answer.is_refused:
            await error_response(body.error())(scope, receive, answer.send_unchecked)

    def _check(self, connection: HTTPConnection, *, has_token: bool) -> None:
        host = connection.headers.get("host", "")
        self._access.check_host(host)
        self._access.check_origin(connection.headers.get("origin"), host)
        announced = connection.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > self._max_body_bytes:
            raise _too_large(self._max_body_bytes)
        path = connection.url.path
        if not has_token and path not in OPEN_PATHS and not path.startswith(OPEN_FOLDERS):
            connection.scope.setdefault("state", {})["user"] = self._access.user_of(connection)

    def _page_token(self, connection: HTTPConnection) -> str | None:
        """Return the token in the address with which the page is opened for the first time."""
        token = connection.query_params.get("token")
        if token is None or connection.scope["method"] != "GET" or not self._access.needs_token:
            return None
        self._access.user_of_token(token)
        return token


def _is_page_load(connection: HTTPConnection) -> bool:
    """Whether a browser loads a page, which a person can log in to."""
    accepted = connection.headers.get("accept", "")
    return connection.scope["method"] == "GET" and "text/html" in accepted


def _logged_in(connection: HTTPConnection, token: str) -> RedirectResponse:
    """Store a token in a cookie, and load the page again without it in the address."""
    left = [(name, value) for name, value in parse_qsl(connection.url.query) if name != "token"]
    # One slash alone: an address that begins with two is that of another server.
    place = "/" + connection.url.path.lstrip("/") + (f"?{urlencode(left)}" if left else "")
    response = RedirectResponse(place, status_code=303)
    is_https = connection.url.scheme == "https"
    response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=is_https)
    return response


def _too_large(most: int) -> RequestTooLargeError:
    return RequestTooLargeError(
        f"The request is larger than {most:,} bytes. Send smaller pictures, or raise the limit: mgem config set "
        "server.max_body_mb"
    )


class _LimitedBody:
    """The body of a request, which ends as soon as it is larger than allowed."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._most = most
        self._num_bytes = 0
        self.is_exceeded = False

    async def receive(self) -> Message:
        """Return the next part; a disconnect once the limit is exceeded."""
        if self.is_exceeded:
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._num_bytes += len(message.get("body", b""))
        if message["type"] == "http.request" and self._num_bytes > self._most:
            self.is_exceeded = True
            return {"type": "http.disconnect"}
        return message

    def error(self) -> RequestTooLargeError:
        """Return the error for the client."""
        return _too_large(self._most)


class _Answer:
    """Sends a response with the security headers, unless the body of its request was too large.

    Attributes:
        is_refused: Whether the body was too large, so that nothing has been sent yet.
    """

    def __init__(self, send: Send, body: _LimitedBody) -> None:
        self._send = send
        self._body = body
        self._has_started = False

    @property
    def is_refused(self) -> bool:
        return self._body.is_exceeded and not self._has_started

    async def send(self, message: Message) -> None:
        """Send a message, unless the request is refused."""
        if not self.is_refused:
            await self.send_unchecked(message)

    async def send_unchecked(self, message: Message) -> None:
        """Send a message."""
        if message["type"] == "http.response.start":
            self._has_started = True
            given = {name for name, _ in message.get("headers", ())}
            added = [each for each in SECURITY_HEADERS if each[0] not in given]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await self._send(message)
