"""What a reasoner is called in a table of prices, and whether it may cost money."""

from __future__ import annotations

import pytest
from langchain_core.language_models import GenericFakeChatModel

from mgem_agent.chat_models.billing import may_cost_money, reasoner_name
from mgem_agent.reasoners import make_reasoner
from mgem_agent.testing import ScriptedReasoner


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("openai:gpt-5", {"api_key": "k"}, ("openai:gpt-5", True)),
        ("http://127.0.0.1:8000/v1#qwen", {}, ("openai:qwen", False)),
        ("https://example.org/v1#qwen", {}, ("openai:qwen", True)),
    ],
)
def test_a_server_is_paid_unless_it_is_private(name: str, options: dict[str, str], expected: tuple[str, bool]) -> None:
    reasoner = make_reasoner(name, **options)
    assert (reasoner_name(reasoner), may_cost_money(reasoner)) == expected


def test_models_of_this_package_and_fakes_are_free() -> None:
    fake = GenericFakeChatModel(messages=iter([]))
    assert not may_cost_money(ScriptedReasoner(script=[])) and not may_cost_money(fake)
    assert (reasoner_name(ScriptedReasoner(script=[])), reasoner_name(fake)) == ("scripted", "generic-fake-chat-model")
