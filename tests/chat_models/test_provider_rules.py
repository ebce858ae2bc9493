"""Pictures stand only where a provider takes them."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from mgem_agent.chat_models.provider_rules import PictureRules, picture_rules, placed
from mgem_agent.testing import ScriptedReasoner

PICTURE = {"type": "image", "id": "img-1", "base64": "AA=="}
TEXT = {"type": "text", "text": "Drawn."}
CALL: Any = {"name": "generate_image", "args": {}, "id": "1", "type": "tool_call"}


def dialogue() -> list[BaseMessage]:
    return [
        HumanMessage("Draw."),
        AIMessage("", tool_calls=[CALL]),
        ToolMessage([TEXT, PICTURE], tool_call_id="1"),
        ToolMessage("Not drawn.", tool_call_id="2"),
        HumanMessage("Thanks."),
        AIMessage([TEXT, PICTURE]),
    ]


def test_the_table() -> None:
    assert picture_rules(GenericFakeChatModel(messages=iter([]))) == PictureRules()
    assert picture_rules(ScriptedReasoner(script=[])) == PictureRules(in_tool=True, in_assistant=True)
    anthropic = type("ChatAnthropic", (GenericFakeChatModel,), {"__module__": "langchain_anthropic.chat_models"})
    assert picture_rules(anthropic(messages=iter([]))) == PictureRules(in_tool=True)


def test_what_is_allowed_stays() -> None:
    assert placed(dialogue(), PictureRules(in_tool=True, in_assistant=True)) == dialogue()


def test_what_is_not_goes_to_the_users_side() -> None:
    done = placed(dialogue(), PictureRules())
    assert [message.type for message in done] == ["human", "ai", "tool", "tool", "human", "ai", "human"]
    assert (done[2].content, done[3].content, done[5].content) == ("Drawn.", "Not drawn.", "Drawn.")
    moved = [{"type": "text", "text": "Picture img-1:"}, PICTURE]
    assert done[4].content == [*moved, {"type": "text", "text": "Thanks."}]
    assert done[6].content == moved
