"""Errors as HTTP responses in OpenAI's form: `{"error": {"message", "type", "code", "param"}}`.

One table maps the classes of `mgem_agent.errors` to a status, a type and a code. What only a server raises is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi.responses import JSONResponse

from mgem_agent.errors import (
    CheckpointError,
    ContextOverflowError,
    GenerationCancelledError,
    GeneratorRefusalError,
    GeneratorTimeoutError,
    GeneratorUnavailableError,
    ImageError,
    InputError,
    MgemError,
    MissingDependencyError,
    MissingKeyError,
    ReasonerError,
    ReasonerUnavailableError,
    StorageError,
    ToolError,
    UnsupportedRequestError,
)
from mgem_agent.redaction import redact

__all__ = [
    "ForbiddenError",
    "InvalidRequestError",
    "NotFoundError",
    "QueueFullError",
    "RequestTooLargeError",
    "ServerError",
    "ServerStoppingError",
    "UnauthorizedError",
    "error_body",
    "error_response",
]


class ServerError(MgemError):
    """An error of the HTTP interface.

    Args:
        message: What was received, what is allowed, and what to do next.
        param: The field of the request that it is about; None for the whole request.
        headers: Headers of the response.
    """

    status = 400
    type = "invalid_request_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        self.param = param
        self.headers = dict(headers or {})
        super().__init__(message)


class InvalidRequestError(ServerError):
    """A field of the request is missing or not valid."""


class NotFoundError(ServerError):
    """There is no such model, picture or response for this user."""

    status = 404
    code = "not_found"


class UnauthorizedError(ServerError):
    """The request has no valid token."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"WWW-Authenticate": "Bearer"})


class ForbiddenError(ServerError):
    """The request comes from a page or was sent to a host name that is not allowed."""

    status = 403
    type = "permission_error"
    code = "forbidden"


class RequestTooLargeError(ServerError):
    """The body of the request is larger than allowed."""

    status = 413
    code = "request_too_large"


class QueueFullError(ServerError):
    """As many requests wait as are allowed.

    Args:
        message: What was received, and what to do next.
        retry_after_s: Seconds after which a place is probably free.
    """

    status = 429
    type = "rate_limit_error"
    code = "queue_full"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after_s)})


class ServerStoppingError(ServerError):
    """The server is being stopped; the request can be sent again."""

    status = 503
    type = "server_error"
    code = "server_stopping"

    def __init__(self, message: str, *, retry_after_s: int = 5) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after_s)})


@dataclass(frozen=True, slots=True)
class _Kind:
    status: int
    type: str
    code: str | None = None


_SERVER_SIDE = _Kind(500, "server_error", "not_configured")
_KINDS: tuple[tuple[type[MgemError], _Kind], ...] = (  # the first that matches counts
    (MissingDependencyError, _SERVER_SIDE),
    (MissingKeyError, _SERVER_SIDE),
    (CheckpointError, _SERVER_SIDE),
    (ContextOverflowError, _Kind(400, "invalid_request_error", "context_length_exceeded")),
    (UnsupportedRequestError, _Kind(400, "invalid_request_error", "unsupported_parameter")),
    (ImageError, _Kind(400, "invalid_request_error", "invalid_image")),
    (InputError, _Kind(400, "invalid_request_error")),
    (GeneratorRefusalError, _Kind(400, "image_generation_user_error", "content_policy_violation")),
    (GeneratorTimeoutError, _Kind(504, "server_error", "timeout")),
    (GeneratorUnavailableError, _Kind(503, "server_error", "generator_unavailable")),
    (GenerationCancelledError, _Kind(499, "server_error", "cancelled")),
    (ReasonerUnavailableError, _Kind(503, "server_error", "reasoner_unavailable")),
    (ReasonerError, _Kind(502, "server_error", "reasoner_failed")),
    (StorageError, _Kind(503, "server_error", "storage_unavailable")),
    (ToolError, _Kind(502, "server_error", "generator_failed")),
    (MgemError, _Kind(500, "server_error")),
)


def error_body(error: Exception, *, param: str | None = None) -> tuple[int, dict[str, Any]]:
    """Return the status and the body for an error.

    Args:
        error: The error; one that is not a `MgemError` is reported without its text, which may contain anything.
        param: The field of the request that it is about.
    """
    if isinstance(error, ServerError):
        kind, param = _Kind(error.status, error.type, error.code), error.param or param
    elif isinstance(error, MgemError):
        kind = next(kind for known, kind in _KINDS if isinstance(error, known))
    else:
        message = f"The server failed unexpectedly ({type(error).__name__}). Its log has the details."
        return 500, {"error": {"message": message, "type": "server_error", "code": "internal_error", "param": None}}
    if isinstance(error, UnsupportedRequestError) and error.arguments and param is None:
        param = error.arguments[0]
    told = {"message": redact(str(error)), "type": kind.type, "code": kind.code, "param": param}
    return kind.status, {"error": told}


def error_response(error: Exception, *, param: str | None = None) -> JSONResponse:
    """Return the HTTP response for an error.

    Args:
        error: As for `error_body`.
        param: As for `error_body`.
    """
    status, body = error_body(error, param=param)
    headers = dict(error.headers) if isinstance(error, ServerError) else {}
    if status == 503:
        headers.setdefault("Retry-After", "5")
    return JSONResponse(body, status, headers)
