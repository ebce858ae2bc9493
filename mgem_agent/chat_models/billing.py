"""What a reasoner is called in a table of prices, and whether it may cost money."""

from __future__ import annotations

from langchain_core.language_models import BaseChatModel

from mgem_agent.tools.servers.web_address import may_charge

__all__ = ["may_cost_money", "reasoner_name"]

_PACKAGE = "langchain_"
_LOCAL = frozenset({"huggingface", "ollama"})
"""Providers that run on the user's own machine or server, by LangChain's packages."""


def reasoner_name(reasoner: BaseChatModel) -> str:
    """Return the name of a chat model: its provider and its model, such as `openai:gpt-5`.

    Examples:
        >>> from mgem_agent.testing import ScriptedReasoner
        >>> reasoner_name(ScriptedReasoner(script=[]))
        'scripted'
    """
    model = _inner(reasoner)
    provider = "" if model is reasoner and "draw" in type(model).model_fields else _provider(model)
    name = next((str(value) for each in ("model_name", "model") if (value := getattr(model, each, None))), "")
    name = name or getattr(model, "_llm_type", type(model).__name__)
    return f"{provider}:{name}" if provider else name


def may_cost_money(reasoner: BaseChatModel) -> bool:
    """Whether answers of a chat model may cost money. No server is contacted.

    Models of this package, of local providers, and on servers in a private network are free.

    Examples:
        >>> from mgem_agent.testing import ScriptedReasoner
        >>> may_cost_money(ScriptedReasoner(script=[]))
        False
    """
    model = _inner(reasoner)
    if "draw" in type(model).model_fields or _provider(model) in _LOCAL:
        return False
    address = next(
        (str(value) for each in ("openai_api_base", "base_url", "endpoint") if (value := getattr(model, each, None))),
        "",
    )
    if "://" in address:
        return may_charge(address)
    return bool(_provider(model))


def _inner(reasoner: BaseChatModel) -> BaseChatModel:
    """Return the model that writes, inside one that adds the `<GEN>` protocol."""
    inner = getattr(reasoner, "chat_model", None)
    return inner if isinstance(inner, BaseChatModel) else reasoner


def _provider(model: BaseChatModel) -> str:
    """Return the provider by the LangChain package of the model's class, such as `openai`; empty for another class."""
    packages = (kind.__module__.partition(".")[0] for kind in type(model).__mro__)
    return next((name.removeprefix(_PACKAGE) for name in packages if _is_partner(name)), "")


def _is_partner(package: str) -> bool:
    return package.startswith(_PACKAGE) and package != f"{_PACKAGE}core"
