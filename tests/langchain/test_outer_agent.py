"""The example runs, with a scripted model in the place of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import Runnable
from PIL import Image

from mgem_agent import MgemAgent
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.langchain import outer_agent as example
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner


class Outer(GenericFakeChatModel):
    """An outer model that follows a script."""

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Runnable[Any, AIMessage]:
        return self


def outer(**args: Any) -> Outer:
    call = AIMessage(content="", tool_calls=[{"name": "mini_gemini", "args": args, "id": "outer_1"}])
    return Outer(messages=iter([call, AIMessage(content="There is your fox.")]))


@pytest.fixture
def inner(tmp_path: Path) -> MgemAgent:
    return MgemAgent(
        ScriptedReasoner(script=["Here. <h>a red fox</h>"]),
        FlatColourGenerator(size=(32, 32)),
        store=ArtifactStore(tmp_path / "store"),
        sessions=Sessions.in_memory(),
    )


@pytest.mark.parametrize("allowed", [False, True])
def test_the_outer_model_sees_and_draws_by_the_tool(inner: MgemAgent, tmp_path: Path, allowed: bool) -> None:
    Image.new("RGB", (20, 10), "red").save(tmp_path / "cat.png")
    model = outer(request="Draw this.", images=["cat.png"])
    agent = example.outer_agent(model, inner, allow_paths=tmp_path if allowed else False)
    messages = agent.invoke({"messages": [{"role": "user", "content": "A fox, please."}]})["messages"]
    told = messages[2]
    assert isinstance(told, ToolMessage)
    if allowed:
        [picture] = told.artifact["images"]
        assert inner.store.open(picture["id"]).size == (32, 32)
    else:
        assert told.status == "error" and "'cat.png' may not be read here" in str(told.content)
    assert messages[-1].content == "There is your fox."


def test_the_program_prints_the_answer_and_the_files(
    inner: MgemAgent, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[tuple[str, dict[str, Any]]] = []

    def make_reasoner(name: str, **options: Any) -> BaseChatModel:
        made.append((name, options))
        return outer(request="Draw a fox.") if name == "openai:gpt-5" else ScriptedReasoner(script=[])

    monkeypatch.setattr(example, "make_reasoner", make_reasoner)
    monkeypatch.setattr(example, "MgemAgent", lambda reasoner, generator: inner)
    assert example.main(["openai:gpt-5", "A fox, please.", "--generator", "flat"]) == 0
    answer, path = capsys.readouterr().out.splitlines()
    assert made == [("YanweiLi/MGM-7B", {}), ("openai:gpt-5", {"tool_calling": "native"})]
    assert answer == "There is your fox."
    assert Path(path).is_file() and Path(path).is_relative_to(inner.store.root)


def test_an_error_is_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(name: str, **options: Any) -> BaseChatModel:
        raise InputError(f"There is no reasoner {name!r}.")

    monkeypatch.setattr(example, "make_reasoner", refuse)
    assert example.main(["openai:gpt-5", "A fox."]) == 1
    assert capsys.readouterr().err == "Error: There is no reasoner 'YanweiLi/MGM-7B'.\n"
