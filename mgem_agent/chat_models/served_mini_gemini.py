"""Mini-Gemini on a server with an OpenAI-compatible API, such as `vllm serve`.

The server renders the dialogue with the model's own chat template, so that the model reads what it was trained on: no
explanation of the `<GEN>` protocol, and a beginning of its answer that it continues. Such a server is known by the name
of its model.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import SecretStr

from mgem_agent.errors import InputError, ReasonerUnavailableError
from mgem_agent.extras import explain_missing
from mgem_agent.redaction import redact
from mgem_agent.tools.servers.http_transport import bounded_client

if TYPE_CHECKING:
    from mgem_agent.chat_models.text_engine import TextEngine

__all__ = ["ServedModel", "find_served", "is_mini_gemini", "served_address", "served_engine", "server_key"]

_OURS = re.compile(r"nano|(?:.*[^a-z])?(?:mgm-\d.*|mini[-_]?gemini.*)", re.IGNORECASE)
_TIMEOUT_S = 20.0
_MAX_BYTES = 4 * 2**20

# The tags of the protocol are special tokens of some tokenizers.
_KEEPS_TAGS = {"skip_special_tokens": False}
_CONTINUES = {"extra_body": {**_KEEPS_TAGS, "add_generation_prompt": False, "continue_final_message": True}}


@dataclass(frozen=True)
class ServedModel:
    """A model on a server.

    Attributes:
        address: Address of the API, such as `http://127.0.0.1:8000/v1`.
        model: The server's name for the model.
        source: The folder or hub id that the server loaded; empty if unknown.
    """

    address: str
    model: str
    source: str = ""

    @property
    def url(self) -> str:
        """The address and the name, as `make_reasoner` takes them."""
        return f"{self.address}#{self.model}"

    def renamed(self, name: str) -> ServedModel:
        """Return another model of this server.

        Args:
            name: Its name, or its address with its name.
        """
        return served_address(name) or replace(self, model=name, source="")


def served_address(model: Any) -> ServedModel | None:
    """Return the served model that a name means; None if it is no address.

    Args:
        model: A folder, a hub id, an address with the name of a model, or a loaded model.

    Raises:
        InputError: If an address has no name of a model.
    """
    if not isinstance(model, str) or "://" not in model:
        return None
    address, _, name = model.partition("#")
    if not name:
        raise InputError(
            f"The address {redact(model)!r} does not name a model. Write it as 'http://127.0.0.1:8000/v1#mgm-7b', with "
            "the server's name for the model after the '#'."
        )
    return ServedModel(address, name)


def server_key(key: str | SecretStr | None) -> str:
    """Return the key of a server: the given one, that of the environment, or `none`, since most need no key.

    Args:
        key: The given one.
    """
    given = key.get_secret_value() if isinstance(key, SecretStr) else key
    return given or os.environ.get("OPENAI_API_KEY") or "none"


def find_served(address: str, model: str, *, key: str) -> ServedModel:
    """Return a model of a server; the server is asked only if it must name the model.

    Args:
        address: Address of the API.
        model: The server's name for the model; empty for the only one that it serves.
        key: Its key.

    Raises:
        ReasonerUnavailableError: If the server does not answer.
        InputError: If it does not serve exactly one model.
    """
    if model:
        return ServedModel(address, model)
    url = f"{address.rstrip('/')}/models"
    try:
        with bounded_client(timeout_s=_TIMEOUT_S, max_bytes=_MAX_BYTES, follow_redirects=True) as client:
            answer = client.get(url, headers={"Authorization": f"Bearer {key}"})
            answer.raise_for_status()
        listed = [entry for entry in answer.json()["data"] if isinstance(entry.get("id"), str)]
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ReasonerUnavailableError(
            f"The server at {redact(address)} does not say which models it has ({str(error) or type(error).__name__}). "
            "Check that it is running, and that the address ends in /v1; or write the name of a model after a '#'.",
            retryable=True,
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReasonerUnavailableError(
            f"{redact(url)} is not a list of models. Check that the address ends in /v1, or write the name of a model "
            "after a '#'."
        ) from error
    if len(listed) != 1:
        names = ", ".join(repr(entry["id"]) for entry in listed[:20])
        raise InputError(
            f"The server at {redact(address)} has {len(listed)} models{names and f': {names}'}. Write the name of one "
            f"after a '#', as in '{redact(address)}#{listed[0]['id'] if listed else 'model'}'."
        )
    return ServedModel(address, listed[0]["id"], str(listed[0].get("root") or ""))


def is_mini_gemini(served: ServedModel) -> bool:
    """Return whether the name of a served model, or of its folder, says that it is Mini-Gemini or nano.

    Args:
        served: The model.
    """
    names = (name.rstrip("/").rpartition("/")[2] for name in (served.model, served.source))
    return any(_OURS.fullmatch(name) for name in names)


def served_engine(
    served: ServedModel, *, key: str | SecretStr | None = None, max_retries: int | None = None
) -> TextEngine:
    """Return a text engine for Mini-Gemini on a server. The server is not contacted yet.

    Args:
        served: The model.
        key: Its key; see `server_key`.
        max_retries: Maximum retries of a request that was not processed.

    Raises:
        MissingDependencyError: If the extra `openai` is not installed.
    """
    with explain_missing(f"The reasoner {served.url!r}"):
        from mgem_agent.chat_models.openai_chat import OpenAIProtocolChat
    from mgem_agent.chat_models.chat_http import chat_clients
    from mgem_agent.chat_models.prompted_chat import ChatEngine

    fields: dict[str, Any] = {"base_url": served.address, "api_key": server_key(key), **chat_clients(max_retries)}
    model = OpenAIProtocolChat(model=served.model, extra_body=_KEEPS_TAGS, **fields)
    return ChatEngine(model, None, buffers_thoughts=False, continuing=_CONTINUES)
