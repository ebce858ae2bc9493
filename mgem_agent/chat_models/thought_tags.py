"""Whether a model's thinking may arrive without an opening tag: known by its name, or from its first answer.

Some servers put `<think>` into the prompt, so that an answer begins with thinking and only its end is marked. Streaming
such text would show the thinking. So the first answer of a model at an address of its own is held back until its end,
until a tag arrives, or until the server sends reasoning in a field of its own. What it showed is remembered for the
model and its address while the program runs. Models without an address, such as the providers' own, are not held back.
"""

from __future__ import annotations

from langchain_core.language_models import BaseChatModel

from mgem_agent.chat_models.reasoner_errors import address_of
from mgem_agent.chat_models.reasoner_facts import facts_of
from mgem_agent.chat_models.thoughts import thinks_by_name

__all__ = ["holds_answer", "learn_tag", "name_of"]

_known: dict[tuple[str, str], bool] = {}
"""Whether thinking arrives without an opening tag, by address and model."""


def holds_answer(reasoner: BaseChatModel, model_name: str | None = None) -> bool:
    """Return whether the next answer is held back until its thinking has ended.

    Args:
        reasoner: The chat model.
        model_name: Name of the model; by default the chat model's own.
    """
    name, address = model_name or name_of(reasoner), address_of(reasoner)
    omits = facts_of(reasoner).omits_thought_tag
    if omits is None:
        omits = _known.get((address, name))
    return thinks_by_name(name) or (bool(address) if omits is None else omits)


def learn_tag(reasoner: BaseChatModel, *, is_bare: bool, model_name: str | None = None) -> None:
    """Remember, after an answer, whether thinking arrived in it without an opening tag; once it did, it may again.

    Args:
        reasoner: The chat model.
        is_bare: Whether a closing tag came without an opening one.
        model_name: As in :func:`holds_answer`.
    """
    facts, key = facts_of(reasoner), (address_of(reasoner), model_name or name_of(reasoner))
    facts.omits_thought_tag = is_bare or bool(facts.omits_thought_tag)
    if key[0]:
        _known[key] = is_bare or _known.get(key, False)


def name_of(reasoner: BaseChatModel) -> str:
    """Return the name of a chat model's model; empty if it has none."""
    inner = getattr(reasoner, "chat_model", reasoner)
    names = (getattr(inner, name, None) for name in ("model_name", "model"))
    return next((name for name in names if isinstance(name, str)), "")
