"""Looking and reading as tools of anybody's agent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from PIL import Image

from mgem_agent import image_tools
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import ToolError
from mgem_agent.langchain import seeing_tools
from mgem_agent.langchain.picture_access import PictureAccess
from mgem_agent.langchain.seeing_tools import look_tool, read_tool
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.tools import ReadText, TextLine


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


@pytest.fixture
def drawn(store: ArtifactStore) -> str:
    [draw, *_] = image_tools(FlatColourGenerator(size=(32, 32)), store)
    return call(draw, prompt="a fox in a hat").artifact["images"][0]["id"]


def call(tool: Any, **args: Any) -> ToolMessage:
    return tool.invoke({"name": tool.name, "args": args, "id": "call_1", "type": "tool_call"})


def asked(reasoner: ScriptedReasoner) -> str:
    [request] = reasoner.requests
    _, question = request.dialogue[0]["content"]
    return question["text"]  # type: ignore[index]


def look(store: ArtifactStore, answer: Any, **args: Any) -> tuple[ToolMessage, ScriptedReasoner]:
    reasoner = ScriptedReasoner(script=[answer])
    return call(look_tool(reasoner, store, access=PictureAccess()), **args), reasoner


def test_a_picture_is_judged_by_the_caption_it_was_drawn_from(store: ArtifactStore, drawn: str) -> None:
    answer = '{"answers": ["yes", "no", "no"], "problem": "There is no hat.", "caption": "a fox in a tall hat"}'
    told, reasoner = look(store, answer, image=drawn)
    assert "Caption: a fox in a hat\n" in asked(reasoner)
    assert told.content == (
        f"{drawn} does not follow the caption. Score: 0.33 of 1. What is wrong: There is no hat. "
        "A better caption: a fox in a tall hat"
    )
    assert told.artifact["images"][0]["id"] == drawn
    assert told.artifact["verdict"] == {
        "follows": False,
        "score": 1 / 3,
        "problem": "There is no hat.",
        "caption": "a fox in a tall hat",
        "answer": answer,
        "answers": (
            ("Is there a fox in the picture?", 1.0),
            ("Is there a hat in the picture?", 0.0),
            ("Is the fox in the hat?", 0.0),
        ),
    }


def test_a_picture_is_judged_by_another_caption(store: ArtifactStore, drawn: str) -> None:
    told, reasoner = look(store, '{"answers": ["yes", "yes"]}', image=drawn, caption="a red card")
    assert "Caption: a red card\n" in asked(reasoner)
    assert told.content == f"{drawn} follows the caption. Score: 1 of 1."


def test_an_answer_without_a_verdict_is_passed_on(store: ArtifactStore, drawn: str) -> None:
    told, _ = look(store, "Nice.", image=drawn)
    assert told.content == f"No verdict on {drawn}. The reasoner said: Nice."


def test_what_cannot_be_judged_is_told(store: ArtifactStore) -> None:
    given = store.put_picture(Image.new("RGB", (8, 8)), origin="a test").id
    told, reasoner = look(store, "unused", image=given)
    assert told.status == "error" and reasoner.requests == ()
    assert told.content == f"{given} was not drawn here and has no caption. Give `caption`: what it should show."
    told, _ = look(store, OSError("gone"), image=given, caption="x")
    assert told.status == "error" and "failed to look at the picture (OSError: gone)" in str(told.content)
    told, _ = look(store, "unused", image="/etc/passwd")
    assert told.status == "error" and "may not be read here" in str(told.content)


def test_text_is_read(store: ArtifactStore, drawn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = ReadText((TextLine("EXIT", 0.9, (1, 2, 30, 12)),), 32, 32)
    monkeypatch.setattr(seeing_tools, "read_text", lambda image: read)
    told = call(read_tool(store, access=PictureAccess()), image=drawn)
    assert told.content == f"Text in {drawn}:\nEXIT"
    assert told.artifact["text"] == "EXIT"
    assert told.artifact["lines"] == [{"text": "EXIT", "confidence": 0.9, "box": [1, 2, 30, 12]}]
    monkeypatch.setattr(seeing_tools, "read_text", lambda image: ReadText((), 32, 32))
    told = call(read_tool(store, access=PictureAccess()), image=drawn)
    assert told.content == f"There is no text in {drawn}."


def test_a_reader_that_fails_is_told(store: ArtifactStore, drawn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: Any) -> Any:
        raise ToolError("It could not be read.")

    monkeypatch.setattr(seeing_tools, "read_text", fail)
    told = call(read_tool(store, access=PictureAccess()), image=drawn)
    assert (told.status, told.content) == ("error", "It could not be read.")
