"""Drawing and editing as tools of anybody's agent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from PIL import Image

from mgem_agent import image_tools
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.testing import FlatColourGenerator


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


@pytest.fixture
def generator() -> FlatColourGenerator:
    return FlatColourGenerator(size=(32, 32), fail_on="no ink")


def call(generator: Any, store: ArtifactStore, name: str, **args: Any) -> ToolMessage:
    tool = next(tool for tool in image_tools(generator, store) if tool.name == name)
    message = tool.invoke({"name": name, "args": args, "id": "call_1", "type": "tool_call"})
    assert isinstance(message, ToolMessage)
    return message


def test_a_picture_is_drawn_stored_and_named(generator: FlatColourGenerator, store: ArtifactStore) -> None:
    told = call(generator, store, "generate_image", prompt="a red fox", seed=7, width=48)
    [picture] = told.artifact["images"]
    assert told.content == [{"type": "text", "text": f"Drew {picture['id']}, 48x32 pixels."}]
    assert (picture["prompt"], picture["seed"]) == ("a red fox", 7)
    assert store.open(picture["id"]).size == (48, 32)


@pytest.mark.parametrize(
    ("args", "task"), [({}, "edit"), ({"strength": 0.4}, "image_to_image"), ({"mask": "mask"}, "inpaint")]
)
def test_the_way_of_editing_follows_from_what_is_given(
    generator: FlatColourGenerator, store: ArtifactStore, args: dict[str, Any], task: str
) -> None:
    given = store.put_picture(Image.new("RGB", (32, 32), "white"), origin="a test").id
    args = {name: given if value == "mask" else value for name, value in args.items()}
    told = call(generator, store, "edit_image", image=given, instruction="make it blue", **args)
    assert generator.drawn[0].task == task
    assert told.artifact["images"][0]["parents"] == [given]


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("generate_image", {"prompt": "no ink"}, "The card 'no ink' came out blank."),
        ("generate_image", {"prompt": "x", "width": 3}, "width: Input should be greater than or equal to 16"),
        ("edit_image", {"image": "img-00000000", "instruction": "x"}, "There is no picture 'img-00000000'"),
        ("edit_image", {"image": "none.png", "instruction": "x"}, "none.png"),
    ],
)
def test_what_goes_wrong_is_told(generator: Any, store: Any, name: str, args: dict[str, Any], message: str) -> None:
    told = call(generator, store, name, **args)
    assert told.status == "error" and message in str(told.content)


def test_the_async_way(generator: FlatColourGenerator, store: ArtifactStore) -> None:
    [draw, _] = image_tools(generator, store)
    told = asyncio.run(draw.ainvoke({"name": draw.name, "args": {"prompt": "x"}, "id": "1", "type": "tool_call"}))
    assert told.artifact["images"][0]["prompt"] == "x"
