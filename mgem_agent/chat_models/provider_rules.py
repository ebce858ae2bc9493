"""Where providers accept pictures, by the LangChain package of the chat model.

| package of the chat model                              | picture in a tool's message | picture in an assistant's |
| ------------------------------------------------------ | --------------------------- | ------------------------- |
| `langchain_anthropic`, `langchain_aws`                 | yes                         | no                        |
| this one (`GenProtocolModel`: it renders its dialogue) | yes                         | yes                       |
| any other: OpenAI's protocol, Ollama, Gemini, …        | no                          | no                        |

A picture that a provider does not accept in a message is moved to a user message right after it, which every provider
accepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

__all__ = ["picture_rules", "placed"]


@dataclass(frozen=True, slots=True)
class PictureRules:
    """Where a provider accepts pictures, other than in user messages.

    Attributes:
        in_tool: Whether it accepts them in tool messages.
        in_assistant: Whether it accepts them in assistant messages.
    """

    in_tool: bool = False
    in_assistant: bool = False


_RULES = {
    "langchain_anthropic": PictureRules(in_tool=True),
    "langchain_aws": PictureRules(in_tool=True),
}


def picture_rules(reasoner: BaseChatModel) -> PictureRules:
    """Return where the provider of a chat model accepts pictures."""
    if "draw" in type(reasoner).model_fields:  # it uses the `<GEN>` protocol
        return PictureRules(in_tool=True, in_assistant=True)
    packages = (kind.__module__.partition(".")[0] for kind in type(reasoner).__mro__)
    return next((_RULES[name] for name in packages if name in _RULES), PictureRules())


def placed(messages: Sequence[BaseMessage], rules: PictureRules) -> list[BaseMessage]:
    """Move pictures that a provider does not accept into the next user message, or into a new one.

    Args:
        messages: A dialogue with pictures as data.
        rules: Where the provider accepts pictures.
    """
    done: list[BaseMessage] = []
    moved: list[Any] = []
    for message in messages:
        if moved and not isinstance(message, ToolMessage):  # the results of all calls must come first
            if isinstance(message, HumanMessage):
                message = message.model_copy(update={"content": [*moved, *_blocks(message)]})
            else:
                done.append(HumanMessage(content=moved))
            moved = []
        is_free = (rules.in_tool or not isinstance(message, ToolMessage)) and (
            rules.in_assistant or not isinstance(message, AIMessage)
        )
        if is_free or isinstance(message.content, str):
            done.append(message)
            continue
        pictures: list[Any] = [block for block in message.content if _is_picture(block)]
        others: list[Any] = [block for block in message.content if not _is_picture(block)]
        for picture in pictures:
            moved += [{"type": "text", "text": f"Picture {picture.get('id') or ''}".rstrip() + ":"}, picture]
        done.append(message.model_copy(update={"content": _joined(others)}))
    return [*done, HumanMessage(content=moved)] if moved else done


def _is_picture(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") in ("image", "image_url")


def _blocks(message: BaseMessage) -> list[Any]:
    return [{"type": "text", "text": message.content}] if isinstance(message.content, str) else list(message.content)


def _joined(blocks: Sequence[Any]) -> Any:
    """Join blocks to one text if all are text, which every server accepts."""
    if all(isinstance(block, str) or block.get("type") == "text" for block in blocks):
        return "\n".join(block if isinstance(block, str) else str(block["text"]) for block in blocks)
    return list(blocks)
