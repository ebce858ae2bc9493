"""Convert a chat model's failure to one of this package's errors, whichever provider's package raised it.

Each package has its own error classes, but all contain the HTTP status and the server's message. These are read here to
recognize a request that is too long, pictures for a model without vision, an overloaded or unreachable server, and a
wrong address. Other exceptions are not changed: they are bugs, not failures of the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from langchain_core import exceptions as langchain_errors
from langchain_core.language_models import BaseChatModel

from mgem_agent.errors import (
    ContextOverflowError,
    MgemError,
    ReasonerError,
    ReasonerOutputError,
    ReasonerPicturesError,
    ReasonerRequestError,
    ReasonerUnavailableError,
)
from mgem_agent.redaction import redact

__all__ = ["address_of", "own_error", "refuses_usage"]

_ADDRESSES = ("openai_api_base", "azure_endpoint", "anthropic_api_url", "base_url", "endpoint_url", "endpoint")
_MAX_WORDS = 300

_TOO_LONG = re.compile(
    r"context[ _]length|context[ _](?:size|window)|maximum model length|prompt is too long|input is too long"
    r"|too large for model with|exceed_context_size|exceeds? the (?:maximum number of tokens|configured limit)"
    r"|must be <= \d+\. given",
    re.IGNORECASE,
)
_LIMITS = (
    r"(?:context length|model length)(?: is| of)?(?: only)? (?:\()?(\d+)",
    r"context size \((\d+)",
    r"[\"']?n_ctx[\"']?: ?(\d+)",
    r"configured limit of (\d+)",
    r"> (\d+) maximum",
    r"number of tokens allowed \((\d+)",
    r"must be <= (\d+)",
    r"model with (\d+) maximum context",
    r"context length \((\d+)",
)
"""How servers report the size of their context: OpenAI, vLLM, SGLang, llama.cpp, LM Studio, Anthropic, Gemini, TGI,
Mistral."""

_BLIND = re.compile(
    r"(?:image|vision|multi-?modal) (?:input|content|modality)s? (?:is|are) not (?:supported|enabled)"
    r"|not a multi-?modal model|(?:does not|doesn't|do not|cannot) (?:support|accept|process) (?:image|vision|multi)"
    r"|image_url is only supported|support image input|missing data required for image input"
    r"|unknown variant `?image_url|input modality is not enabled"
    r"|content must be a string|(?:no|without) (?:vision|image|multimodal) (?:support|capabilit)|mmproj",
    re.IGNORECASE,
)
_FEWER = re.compile(
    r"at most (\d+) image|supports? up to (\d+) image|too many (?:total )?images?:? \d+ > (\d+)", re.IGNORECASE
)
_USAGE = re.compile(r"stream_options|include_usage", re.IGNORECASE)
_UNREACHABLE = ("ConnectError", "ConnectTimeout", "APIConnectionError", "ConnectionError", "ServiceUnavailable")
_TIMEOUT = ("Timeout", "DeadlineExceeded")
_BROKEN_OFF = ("RemoteProtocolError", "ReadError", "IncompleteRead", "ChunkedEncodingError")


def own_error(error: Exception, reasoner: BaseChatModel, *, shows_pictures: bool = True) -> MgemError | None:
    """Return this package's error for a failure of a chat model; None if it is not a failure of its server.

    Args:
        error: The exception of the chat model.
        reasoner: The chat model.
        shows_pictures: Whether the request contained pictures.
    """
    if isinstance(error, MgemError):
        return error
    if hasattr(reasoner, "text_engine") and not hasattr(reasoner, "chat_model"):
        return None  # it runs locally, without a server
    where, words, status = _named(reasoner), _words_of(error), _status_of(error)
    if isinstance(error, langchain_errors.ContextOverflowError) or (
        status in (None, 400, 413, 422, 500) and _is_of_a_server(error, status) and _TOO_LONG.search(words)
    ):
        return _overflow(words, where)
    if shows_pictures and status not in (None, 401, 403, 429):
        found = _FEWER.search(words)
        most = next((int(number) for number in found.groups() if number), 0) if found else 0
        if most or found or _BLIND.search(words):
            takes = f"at most {most} picture(s) in a request" if most else "no pictures"
            return ReasonerPicturesError(
                f"{where} takes {takes}. The server's message: {_cut(words)}", max_pictures=most
            )
    if status is not None:
        return _of_status(status, words, where)
    return _of_connection(error, words, where)


def refuses_usage(error: Exception) -> bool:
    """Return whether a server rejects the request for usage data."""
    return _status_of(error) in (400, 404, 422, 500, 501) and _USAGE.search(_words_of(error)) is not None


def address_of(reasoner: BaseChatModel) -> str:
    """Return the address of a chat model's server, without secrets; empty if none is set."""
    inner = getattr(reasoner, "chat_model", reasoner)
    for name in _ADDRESSES:
        address = getattr(inner, name, None)
        if isinstance(address, str) and address:
            return redact(address)
    return ""


def _named(reasoner: BaseChatModel) -> str:
    inner = getattr(reasoner, "chat_model", reasoner)
    names = (getattr(inner, name, None) for name in ("model_name", "model"))
    model = next((name for name in names if isinstance(name, str) and name), type(inner).__name__)
    address = address_of(reasoner)
    return f"The reasoner {model!r} at {address}" if address else f"The reasoner {model!r}"


def _of_status(status: int, words: str, where: str) -> ReasonerError:
    said = f"{where} answered with HTTP {status}: {_cut(words)}"
    if status == 429:
        return ReasonerUnavailableError(f"{said} Wait and try again.", retryable=True)
    if status == 408 or status >= 500:
        return ReasonerUnavailableError(f"{said} Try again later, or see the server's log.", retryable=True)
    if status in (401, 403):
        return ReasonerRequestError(f"{said} Check the API key and its permissions.")
    if status in (404, 405):
        return ReasonerRequestError(
            f"{said} Check the model's name and the address; that of an OpenAI-compatible API ends in /v1."
        )
    return ReasonerRequestError(said)


def _of_connection(error: Exception, words: str, where: str) -> ReasonerError | None:
    kinds = [kind.__name__ for each in _chain(error) for kind in type(each).__mro__]
    if any(word in kind for kind in kinds for word in _TIMEOUT) or "timed out" in words:
        return ReasonerUnavailableError(
            f"{where} did not answer in time. Try again, or increase the timeout.", retryable=True
        )
    if any(kind in _BROKEN_OFF for kind in kinds):
        return ReasonerOutputError(f"{where} ended its answer early ({_cut(words)}) Try again.", retryable=True)
    if any(kind in _UNREACHABLE for kind in kinds):
        return ReasonerUnavailableError(
            f"{where} cannot be reached ({_cut(_deepest(error))}) Check that the server is running there.",
            retryable=True,
        )
    if isinstance(error, ValueError) and "No generation chunks were returned" in words:
        return ReasonerOutputError(
            f"{where} sent no answer. Check the address: that of an OpenAI-compatible API ends in /v1."
        )
    if type(error).__name__ == "JSONDecodeError" or "APIResponseValidationError" in kinds:
        return ReasonerOutputError(f"{where} sent a response that is not an answer ({_cut(words)}) Check the address.")
    if "APIError" in kinds:  # an error within a stream that has begun
        return ReasonerOutputError(f"{where} ended its answer early: {_cut(words)}", retryable=True)
    return None


def _overflow(words: str, where: str) -> ContextOverflowError:
    numbers = re.sub(r"(?<=\d),(?=\d{3}\b)", "", words)
    found = (re.search(pattern, numbers, re.IGNORECASE) for pattern in _LIMITS)
    limit = next((int(match[1]) for match in found if match), None)
    asked = max((int(number) for number in re.findall(r"\d+", numbers)), default=0) if limit is not None else 0
    holds = f"its context holds {limit} tokens" if limit is not None else "its context is shorter"
    return ContextOverflowError(
        num_text_tokens=asked if limit is not None and asked > limit else 0,
        max_context=limit,
        message=(
            f"The request is too long for {where[:1].lower()}{where[1:]}: {holds}. The server's message: {_cut(words)} "
            "Send a shorter text or fewer pictures, or request fewer new tokens."
        ),
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    at: BaseException | None = error
    while at is not None:
        yield at
        at = at.__cause__ or at.__context__


def _deepest(error: Exception) -> str:
    return next((str(each) for each in reversed(list(_chain(error))) if str(each)), str(error))


def _status_of(error: Exception) -> int | None:
    """Return the HTTP status of the response that caused an error."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "code", "http_status"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and 100 <= value < 600:
                return value
    return None


def _is_of_a_server(error: Exception, status: int | None) -> bool:
    return status is not None or any("APIError" == kind.__name__ for kind in type(error).__mro__)


def _words_of(error: Exception) -> str:
    """Return the server's message, without the markup of an HTML page."""
    body: Any = getattr(error, "body", None)
    if isinstance(body, dict):
        inner = body.get("error", body)
        said = inner.get("message", inner.get("detail")) if isinstance(inner, dict) else inner
        numbers = [f"{name}: {inner[name]}" for name in ("n_ctx", "n_prompt_tokens") if name in inner]
        words = " ".join([str(said or body), *(f"({number})" for number in numbers)])
    else:
        words = str(body or error)
    if "<html" in words.lower() or "<!doctype" in words.lower():
        title = re.search(r"<title[^>]*>(.*?)</title", words, re.IGNORECASE | re.DOTALL)
        return f"a web page, {' '.join(title[1].split())!r}" if title else "a web page"
    return words


def _cut(words: str) -> str:
    """Return a message as one line of limited length that ends like a sentence."""
    line = redact(" ".join(words.split()))
    line = line if len(line) <= _MAX_WORDS else f"{line[:_MAX_WORDS]}…"
    return line if line.endswith((".", "!", "?", "…")) else f"{line}."
