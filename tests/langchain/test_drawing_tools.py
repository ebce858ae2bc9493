"""Drawing and editing as tools of anybody's agent."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from PIL import Image

from mgem_agent import image_tools
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.langchain.drawing_tools import draw_tool, edit_tool
from mgem_agent.langchain.picture_access import PictureAccess
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import Capabilities

GIVEN = "data:image/gif;base64,R0lGODdhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs="
"""A picture of one pixel."""


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


@pytest.fixture
def generator() -> FlatColourGenerator:
    return FlatColourGenerator(size=(32, 32), fail_on="no ink", crash_on="on fire")


def call(generator: Any, store: ArtifactStore, name: str, **args: Any) -> ToolMessage:
    options = {option: args.pop(option) for option in ("fallbacks", "allow_paths") if option in args}
    tool = next(tool for tool in image_tools(generator, store, **options) if tool.name == name)
    message = tool.invoke({"name": name, "args": args, "id": "call_1", "type": "tool_call"})
    assert isinstance(message, ToolMessage)
    return message


def test_a_picture_is_drawn_stored_and_named(generator: FlatColourGenerator, store: ArtifactStore) -> None:
    told = call(generator, store, "generate_image", prompt="a red fox", seed=7, width=48)
    [picture] = told.artifact["images"]
    assert told.content == f"Drew {picture['id']}, 48x32 pixels."
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
    assert (told.artifact["way"], told.artifact["is_fallback"]) == (task, False)


def test_another_way_of_editing_is_taken_only_where_the_developer_allows_it(store: ArtifactStore) -> None:
    generator = FlatColourGenerator(size=(32, 32), capabilities=Capabilities(tasks={"text_to_image"}, seed=True))  # type: ignore[arg-type]
    fox = call(generator, store, "generate_image", prompt="a red fox", seed=7).artifact["images"][0]["id"]
    told = call(generator, store, "edit_image", image=fox, instruction="make it night")
    assert told.status == "error"
    assert "Generator 'flat' cannot edit this picture. edit: task='edit' is not supported; " in told.content
    told = call(generator, store, "edit_image", image=fox, instruction="make it night", fallbacks=["redraw"])
    [picture] = told.artifact["images"]
    assert (told.artifact["way"], told.artifact["is_fallback"]) == ("redraw", True)
    assert (picture["prompt"], picture["seed"]) == ("a red fox. make it night", 7)
    said = "flat does not support 'edit'; 'redraw' was used with the prompt 'a red fox. make it night'."
    assert told.content == f"Drew {picture['id']}, 32x32 pixels. {said}"


def test_what_the_original_was_made_from_need_not_be_stored_any_more(
    generator: FlatColourGenerator, store: ArtifactStore
) -> None:
    sketch = store.put_picture(Image.new("RGB", (32, 32), "white"), origin="a test").id
    fox = call(generator, store, "edit_image", image=sketch, instruction="a fox").artifact["images"][0]["id"]
    store.path(sketch).unlink()
    told = call(generator, store, "edit_image", image=fox, instruction="a hat", fallbacks=["redraw"])
    assert told.artifact["way"] == "edit"


def test_references_are_handed_on(generator: FlatColourGenerator, store: ArtifactStore) -> None:
    fox, hat = (store.put_picture(Image.new("RGB", (32, 32), it), origin="a test").id for it in ("red", "black"))
    told = call(generator, store, "edit_image", image=fox, instruction="wear the hat", references=[hat])
    assert told.artifact["images"][0]["parents"] == [fox, hat]


def test_files_are_closed_unless_the_developer_opens_them(
    generator: FlatColourGenerator, store: ArtifactStore, tmp_path: Path
) -> None:
    (tmp_path / "open").mkdir()
    Image.new("RGB", (32, 32), "red").save(tmp_path / "open" / "fox.png")
    args = {"image": "fox.png", "instruction": "make it night"}
    assert "'fox.png' may not be read here" in str(call(generator, store, "edit_image", **args).content)
    assert call(generator, store, "edit_image", **args, allow_paths=tmp_path / "open").status == "success"
    args |= {"image": "open/fox.png", "mask": "../fox.png"}
    assert "'../fox.png' may not be read" in str(
        call(generator, store, "edit_image", **args, allow_paths=tmp_path).content
    )


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("generate_image", {"prompt": "no ink"}, "The card 'no ink' came out blank."),
        ("generate_image", {"prompt": "on fire"}, "the card caught fire"),
        ("edit_image", {"image": GIVEN, "instruction": "no ink"}, "The card 'no ink' came out blank."),
        ("generate_image", {"prompt": "x", "width": 3}, "width: Input should be greater than or equal to 16"),
        ("edit_image", {"image": "img-00000000", "instruction": "x"}, "There is no picture 'img-00000000'"),
        ("edit_image", {"image": "none.png", "instruction": "x"}, "none.png"),
        ("edit_image", {"image": "none.png"}, "The arguments of the call are wrong. instruction: Field required."),
        ("edit_image", {"image": "data:image/png;base64,", "instruction": "x"}, "is empty"),
        ("generate_image", {"prompt": "x", "seed": "many"}, "seed: Input should be a valid integer"),
    ],
)
def test_what_goes_wrong_is_told(generator: Any, store: Any, name: str, args: dict[str, Any], message: str) -> None:
    told = call(generator, store, name, **args)
    assert told.status == "error" and message in str(told.content)


def test_filled_and_unknown_arguments_cost_no_picture(generator: FlatColourGenerator, store: ArtifactStore) -> None:
    told = call(generator, store, "generate_image", prompt="x", seed=-1, width=0, negative_prompt="null", mood="calm")
    [picture] = told.artifact["images"]
    assert told.content == (f"Drew {picture['id']}, 32x32 pixels. The argument 'mood' is unknown and was left out.")
    fox = picture["id"]
    told = call(generator, store, "edit_image", image=fox, instruction="x", mask="", strength=0, references="", n=1)
    assert told.status == "success" and told.artifact["way"] == "edit"


def test_the_async_way(generator: FlatColourGenerator, store: ArtifactStore) -> None:
    [draw, *_] = image_tools(generator, store)
    told = asyncio.run(draw.ainvoke({"name": draw.name, "args": {"prompt": "x"}, "id": "1", "type": "tool_call"}))
    assert told.artifact["images"][0]["prompt"] == "x"


def test_a_program_sees_each_step_and_can_stop(generator: FlatColourGenerator, store: ArtifactStore) -> None:
    given = store.put_picture(Image.new("RGB", (32, 32), "white"), origin="a test").id
    for args in ({"prompt": "a fox"}, {"image": given, "instruction": "make it blue"}):
        cancel, steps = threading.Event(), []
        for watch in (steps.append, lambda step: cancel.set()):  # noqa: B023 (called in this round)
            hooks: dict[str, Any] = {"cancel": cancel, "on_progress": watch}
            drawing = draw_tool(generator, store, defaults={"seed": 5}, **hooks)
            tool = edit_tool(generator, store, access=PictureAccess(), **hooks) if "image" in args else drawing
            told = tool.invoke({"name": tool.name, "args": args, "id": "call_1", "type": "tool_call"})
            if not cancel.is_set():
                assert [step.step for step in steps] == [1, 2, 3, 4] and told.status == "success"
        assert told.status == "error" and "cancelled" in told.content
    assert [request.seed for request in generator.drawn if request.task == "text_to_image"] == [5]


def test_the_manifest_has_the_notices(generator: FlatColourGenerator, store: ArtifactStore) -> None:
    told = call(generator, store, "generate_image", prompt="a red fox", mood="calm")
    assert told.artifact["notices"] == ["The argument 'mood' is unknown and was left out."]
