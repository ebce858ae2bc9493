"""Create a reasoner by its name: a model of a LangChain provider, a model on a server, or the core model.

======================================== ===========================================================================
`openai:gpt-5`, `ollama:llama3`, …       any provider that `langchain.chat_models.init_chat_model` supports
`http://host:8000/v1#model`              a server with an OpenAI-compatible API: vLLM, SGLang, llama.cpp, …; without
                                         `#model`, the only model that it serves
`YanweiLi/MGM-7B`, `./weights`           the core model, by hub id or folder
`nano`                                   the small built-in model
======================================== ===========================================================================

Models that support tool calling use it; others draw by the `<GEN>` protocol. A server with an address gets the protocol
in its prompt unless native tool calling is requested: such a server supports tool calling only if it was started with
it, and this cannot be detected before a request fails. A served model whose name says that it is Mini-Gemini (`nano`,
`…/MGM-7B`, `my-mini-gemini`) is not told the protocol that it is trained on.
"""

from __future__ import annotations

import os
import re
from typing import Any, Literal, get_args

from langchain_core.language_models import BaseChatModel

from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.errors import InputError, MissingDependencyError, MissingKeyError
from mgem_agent.extras import explain_missing, require_packages
from mgem_agent.redaction import remember_secrets

__all__ = ["ToolCalling", "make_reasoner"]

ToolCalling = Literal["auto", "native", "prompt"]

_FORMS = (
    "'openai:gpt-5', 'ollama:llama3' (a provider and its model), 'http://127.0.0.1:8000/v1#model' (a server with an "
    "OpenAI-compatible API), 'YanweiLi/MGM-7B' or a folder (the core model), 'nano' (the small built-in model)"
)
_PROVIDER = re.compile(r"(?P<provider>[a-z][a-z0-9_-]+):(?P<model>.+)", re.DOTALL)
_ADDRESS = re.compile(r"https?://[^#\s]+", re.IGNORECASE)
_KEY = re.compile(r"\b[A-Z][A-Z0-9_]*_(?:API_)?(?:KEY|TOKEN)\b")
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


def make_reasoner(name: str | os.PathLike[str], *, tool_calling: ToolCalling = "auto", **options: Any) -> BaseChatModel:
    """Return a chat model by its name. No weights are loaded yet, and a server is asked only for an unnamed model.

    Args:
        name: A name from the table above.
        tool_calling: `native` uses the model's tool calling; `prompt` explains the `<GEN>` protocol in the prompt;
            `auto` is `prompt` for servers with an address and for models without tool calling, and `native` for
            others. The core model is trained on the protocol and ignores this, unless a server runs it.
        **options: Fields of the chat model: `temperature`, `max_tokens`, `api_key`, ...

    Raises:
        InputError: If the name has none of these forms, or the provider's key is not in the environment.
        MissingDependencyError: If the provider's package is not installed, or the extra `local` for a model that runs
            on this machine.
    """
    if tool_calling not in get_args(ToolCalling):
        raise InputError(f"tool_calling is {tool_calling!r}. Allowed: {', '.join(map(repr, get_args(ToolCalling)))}.")
    text = os.fspath(name)
    remember_secrets({"name": text, **options})
    if text == "nano":
        from mgem_agent.nano.reasoner import make_nano_reasoner

        return make_nano_reasoner(**options)
    if "://" in text:
        return _at_address(text, tool_calling, options)
    found = _PROVIDER.fullmatch(text)
    if found is not None and not os.path.exists(text):
        model = _of_provider(found["provider"], found["model"], text, options)
        is_native = tool_calling == "native" or (tool_calling == "auto" and _calls_tools(model))
        return model if is_native else _with_protocol(model)
    if os.path.isdir(text) or (_HUB_ID.fullmatch(text) and not text.startswith(".")):
        from mgem_agent.chat_models.mini_gemini import ChatMiniGemini

        require_packages(f"The reasoner {text!r}", *ChatMiniGemini.REQUIRES)
        return ChatMiniGemini(model=text, **options)
    raise InputError(f"There is no reasoner {text!r}, and no such folder. Allowed: {_FORMS}.")


def _at_address(text: str, tool_calling: ToolCalling, options: dict[str, Any]) -> BaseChatModel:
    from mgem_agent.chat_models.served_mini_gemini import find_served, is_mini_gemini, server_key

    address, _, model_name = text.partition("#")
    if not _ADDRESS.fullmatch(address):
        raise InputError(
            f"The reasoner {text!r} is not an address with a model. Write it as 'http://127.0.0.1:8000/v1#model', with "
            "the server's name for the model after the '#'."
        )
    key = server_key(options.pop("api_key", None))
    served = find_served(address, model_name, key=key)
    if tool_calling == "auto" and is_mini_gemini(served):
        from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
        from mgem_agent.nano.reasoner import NanoChat

        kind = NanoChat if served.model == "nano" else ChatMiniGemini
        return kind(model=served.url, **{"api_key": key, **options})
    options = {"base_url": address, "api_key": key, **options}
    model = _of_provider("openai", served.model, text, options)
    return model if tool_calling == "native" else _with_protocol(model)


def _of_provider(provider: str, model_name: str, text: str, options: dict[str, Any]) -> BaseChatModel:
    from langchain.chat_models import init_chat_model

    if provider == "openai" and not _brings_a_client(options):
        from mgem_agent.chat_models.chat_http import chat_clients

        options = options | chat_clients(options.get("max_retries"))
    try:
        if provider == "openai":
            with explain_missing(f"The reasoner {text!r}"):
                from mgem_agent.chat_models.openai_chat import OpenAIProtocolChat
            return OpenAIProtocolChat(model=model_name, **options)
        model = init_chat_model(model_name, model_provider=provider, **options)
    except MissingDependencyError:
        raise
    except ImportError as error:
        package = _package_of(error, provider)
        raise MissingDependencyError(f"The reasoner {text!r}", package) from error
    except Exception as error:  # each provider has its own error for a missing key
        told = _told_better(error, provider, text)
        if told is None:
            raise
        raise told from error
    if not isinstance(model, BaseChatModel):
        raise InputError(f"The reasoner {text!r} does not name one model. Allowed: {_FORMS}.")
    return model


def _brings_a_client(options: dict[str, Any]) -> bool:
    """Whether the caller has passed an HTTP client or a proxy."""
    names = ("http_client", "http_async_client", "openai_proxy")
    return any(options.get(name) is not None for name in names) or bool(os.environ.get("OPENAI_PROXY"))


def _told_better(error: Exception, provider: str, text: str) -> InputError | None:
    """Return a clearer error for an unknown provider, or for a missing key if the message names its variable."""
    if isinstance(error, ValueError) and "Unsupported provider" in str(error):
        return InputError(f"There is no provider {provider!r}, in the reasoner {text!r}. Allowed: {_FORMS}.")
    found = _KEY.search(str(error))
    if found is None:
        return None
    return MissingKeyError(
        f"The reasoner {text!r} needs an API key. Set {found[0]} in the environment, or choose another model."
    )


def _package_of(error: ImportError, provider: str) -> str:
    """Return the package that LangChain's message says to install."""
    found = re.search(r"pip install (?:-U )?([\w.\[\]-]+)", str(error))
    return found[1].rstrip(".") if found else f"langchain-{provider.replace('_', '-')}"


def _calls_tools(model: BaseChatModel) -> bool:
    profile = model.profile or {}
    return type(model).bind_tools is not BaseChatModel.bind_tools and profile.get("tool_calling") is not False


def _with_protocol(model: BaseChatModel) -> BaseChatModel:
    from mgem_agent.chat_models.prompted_chat import GenProtocolChat

    return model if isinstance(model, GenProtocolModel) else GenProtocolChat(chat_model=model)
