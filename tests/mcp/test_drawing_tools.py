"""The tools `draw`, `edit` and `redraw`, over both versions of the protocol."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.types import CallToolResult
from PIL import Image

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.langchain.picture_access import PictureAccess
from mgem_agent.mcp import make_server
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import Budgets


def text_of(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if block.type == "text")


def picture_of(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, text_of(result)
    return result.structured_content["picture"]


async def test_a_result_has_a_preview_a_link_and_facts_without_bytes(
    make_parts: Any, connect: Any, store: ArtifactStore
) -> None:
    async with connect(make_parts(made={"flat": FlatColourGenerator(size=(640, 480))})) as client:
        result = await client.call_tool("draw", {"prompt": "a red fox", "seed": 7, "mood": "calm"})
        text, preview, link = result.content
        assert text.type == "text" and preview.type == "image" and link.type == "resource_link"
        shown = Image.open(io.BytesIO(base64.b64decode(preview.data)))
        assert (shown.format, shown.size, preview.mime_type) == ("JPEG", (256, 192), "image/jpeg")
        facts = picture_of(result)
        name = facts["id"]
        assert (link.uri, link.mime_type) == (f"mgem://pictures/{name}", "image/png")
        assert link.size == store.path(name).stat().st_size
        assert text.text.startswith(f"Drew {name}, 640x480 pixels.")
        assert {key: facts[key] for key in ("prompt", "seed", "width", "height", "generator", "parents")} == {
            "prompt": "a red fox", "seed": 7, "width": 640, "height": 480, "generator": "flat", "parents": [],
        }  # fmt: skip
        assert result.structured_content["notices"] == ["The argument 'mood' is unknown and was left out."]
        whole = await client.read_resource(link.uri)
        assert base64.b64decode(whole.contents[0].blob) == store.path(name).read_bytes()


async def test_links_can_be_left_out_for_clients_that_pass_them_to_a_model(make_parts: Any, connect: Any) -> None:
    async with connect(make_parts(has_links=False)) as client:
        result = await client.call_tool("draw", {"prompt": "a red fox"})
        assert [block.type for block in result.content] == ["text", "image"]
        assert picture_of(result)["uri"].startswith("mgem://pictures/img-")


@pytest.mark.parametrize(
    ("has_links", "kinds"), [(None, ["text", "image"]), (True, ["text", "image", "resource_link"])]
)
async def test_a_client_without_a_name_gets_no_links_unless_they_are_asked_for(
    make_parts: Any, version: str, has_links: bool | None, kinds: list[str]
) -> None:
    """LangChain gives no name, and passes links to a model."""
    mode = "auto" if version == "2026-07-28" else "legacy"
    async with Client(make_server(make_parts(has_links=has_links)), mode=mode) as client:
        result = await client.call_tool("draw", {"prompt": "a fox"})
        assert [block.type for block in result.content] == kinds
        assert result.structured_content["picture"]["uri"].startswith("mgem://pictures/")


async def test_defaults_apply_to_what_a_call_leaves_out(make_parts: Any, connect: Any) -> None:
    async with connect(make_parts(defaults={"width": 64, "seed": 5})) as client:
        drawn = picture_of(await client.call_tool("draw", {"prompt": "a fox", "seed": 6}))
        assert (drawn["width"], drawn["seed"]) == (64, 6)


async def test_an_edit_names_its_way_and_its_parent(make_parts: Any, connect: Any) -> None:
    async with connect(make_parts()) as client:
        first = picture_of(await client.call_tool("draw", {"prompt": "a fox"}))["id"]
        result = await client.call_tool("edit", {"image": first, "instruction": "make it night"})
        facts = result.structured_content
        assert (facts["way"], facts["is_fallback"]) == ("edit", False)
        assert (facts["picture"]["parents"], facts["picture"]["task"]) == ([first], "edit")


async def test_a_picture_can_be_given_as_data(make_parts: Any, connect: Any) -> None:
    data = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(data, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    async with connect(make_parts()) as client:
        picture_of(await client.call_tool("edit", {"image": url, "instruction": "make it night"}))


async def test_a_path_is_read_only_below_an_open_folder(make_parts: Any, connect: Any, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    for folder in (tmp_path, tmp_path / "open"):
        Image.new("RGB", (32, 32), "teal").save(folder / "sea.png")
    outside, inside = str(tmp_path / "sea.png"), str(tmp_path / "open" / "sea.png")

    async def edited(client: Any, image: str) -> CallToolResult:
        return await client.call_tool("edit", {"image": image, "instruction": "make it night"})

    async with connect(make_parts()) as client:
        for name in (outside, inside, "/etc/passwd", "https://example.com/a.png"):
            assert (await edited(client, name)).is_error
    async with connect(make_parts(access=PictureAccess.of(str(tmp_path / "open")))) as client:
        picture_of(await edited(client, inside))
        refused = await edited(client, outside)
        assert refused.is_error and "may not be read here" in text_of(refused)
        assert (await edited(client, "../sea.png")).is_error


async def test_a_redraw_is_identical_and_another_seed_is_a_variation(make_parts: Any, connect: Any) -> None:
    async with connect(make_parts()) as client:
        first = picture_of(await client.call_tool("draw", {"prompt": "a fox", "seed": 1}))["id"]
        same = await client.call_tool("redraw", {"image": first})
        assert picture_of(same)["id"] == first
        assert same.structured_content["comparison"] == "the same picture, byte for byte"
        other = picture_of(await client.call_tool("redraw", {"image": first, "seed": 2}))
        assert other["id"] != first and other["seed"] == 2


async def test_a_generator_that_is_not_offered_is_refused(make_parts: Any, connect: Any) -> None:
    async with connect(make_parts()) as client:
        first = picture_of(await client.call_tool("draw", {"prompt": "a fox"}))["id"]
        result = await client.call_tool("draw", {"prompt": "a fox", "generator": "openai:m@http://evil.example/v1"})
        assert result.is_error and "Available: flat, charged" in text_of(result)
    async with connect(make_parts(generators=("other",), made={"other": FlatColourGenerator()})) as client:
        refused = await client.call_tool("redraw", {"image": first})
        assert refused.is_error and "was drawn by 'flat', which is not available here" in text_of(refused)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, "prompt: Field required"),
        ({"prompt": "a fox", "width": 4}, "width"),
        ({"prompt": "a fox no ink"}, "came out blank"),
        ({"prompt": "a fox on fire"}, "the card caught fire"),
    ],
)
async def test_an_error_of_a_tool_is_a_result_with_a_plain_message(
    make_parts: Any, connect: Any, args: dict[str, Any], words: str
) -> None:
    generator = FlatColourGenerator(fail_on="no ink", crash_on="on fire")
    async with connect(make_parts(made={"flat": generator})) as client:
        result = await client.call_tool("draw", args)
        assert result.is_error and result.structured_content is None
        assert words in text_of(result) and "Traceback" not in text_of(result)


async def test_the_steps_of_a_drawing_are_progress(make_parts: Any, connect: Any) -> None:
    seen: list[tuple[float, float | None, str | None]] = []

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        seen.append((done, total, message))

    async with connect(make_parts(made={"flat": FlatColourGenerator(delay_s=0.2)})) as client:
        await client.call_tool("draw", {"prompt": "a fox"}, progress_callback=on_progress)
    assert seen[-1] == (4, 4, "Drawing: step 4 of 4")
    assert len(seen) >= 2 and [done for done, _, _ in seen] == sorted({done for done, _, _ in seen})


async def test_cancelling_a_call_stops_its_drawing_and_no_other(
    make_parts: Any, connect: Any, store: ArtifactStore
) -> None:
    begun, stopped = threading.Event(), threading.Event()

    class Slow(FlatColourGenerator):
        def generate(self, requests: Any, *, pictures: Any = None, cancel: Any = None, **options: Any) -> Any:
            if requests[0].prompt == "slow":
                begun.set()
                if cancel.wait(20):
                    stopped.set()
            yield from super().generate(requests, pictures=pictures, cancel=cancel)

    async with connect(make_parts(made={"flat": Slow(size=(48, 32))})) as client:
        slow = asyncio.create_task(client.call_tool("draw", {"prompt": "slow"}))
        assert await asyncio.to_thread(begun.wait, 10)
        other = asyncio.create_task(client.call_tool("draw", {"prompt": "quick"}))
        slow.cancel()
        picture_of(await other)
        assert await asyncio.to_thread(stopped.wait, 10)
        with pytest.raises(asyncio.CancelledError):
            await slow
    assert [artifact.title for artifact in store.list()] == ["quick"]


async def test_a_person_approves_a_caption_and_may_edit_it(make_parts: Any, connect: Any, person: Any) -> None:
    asked = person({"caption": "a red fox in snow"}, {})
    async with connect(make_parts(confirm=True), asked) as client:
        assert picture_of(await client.call_tool("draw", {"prompt": "a fox"}))["prompt"] == "a red fox in snow"
        assert picture_of(await client.call_tool("draw", {"prompt": "a cat"}))["prompt"] == "a cat"
    assert asked.questions[0].message == "Draw this picture with flat?\n\na fox"
    assert asked.questions[0].requested_schema["properties"]["caption"]["default"] == "a fox"


async def test_a_refused_caption_is_not_drawn(make_parts: Any, connect: Any, person: Any, store: ArtifactStore) -> None:
    async with connect(make_parts(confirm=True), person(None)) as client:
        result = await client.call_tool("draw", {"prompt": "a fox"})
        assert result.is_error and "The person refused. Nothing was drawn." in text_of(result)
    assert store.list() == []


async def test_a_picture_that_costs_money_needs_a_person(make_parts: Any, connect: Any, person: Any) -> None:
    asked = person({}, {"agreed": True}, {"agreed": False})
    async with connect(make_parts(), asked) as client:
        first = picture_of(await client.call_tool("draw", {"prompt": "a fox", "generator": "charged"}))["id"]
        assert "It costs money" in asked.questions[0].message
        picture_of(await client.call_tool("redraw", {"image": first, "generator": "charged"}))
        assert (await client.call_tool("redraw", {"image": first, "generator": "charged"})).is_error
        picture_of(await client.call_tool("draw", {"prompt": "a fox"}))  # free: nobody is asked
    assert len(asked.questions) == 3


@pytest.mark.parametrize(
    ("options", "args", "words"),
    [
        ({}, {"generator": "charged"}, "start the server with --spend allow"),
        ({"spending": "refuse"}, {"generator": "charged"}, "this server may not spend any"),
        ({"confirm": True}, {}, "Start it without --confirm"),
    ],
)
async def test_without_a_person_to_ask_the_call_is_refused(
    make_parts: Any,
    connect: Any,
    charged: FlatColourGenerator,
    store: ArtifactStore,
    options: dict[str, Any],
    args: dict[str, Any],
    words: str,
) -> None:
    async with connect(make_parts(**options)) as client:
        result = await client.call_tool("draw", {"prompt": "a fox", **args})
        assert result.is_error and words in text_of(result)
    assert charged.drawn == [] and store.list() == []


async def test_spending_can_be_allowed(make_parts: Any, connect: Any) -> None:
    async with connect(make_parts(spending="allow")) as client:
        picture_of(await client.call_tool("draw", {"prompt": "a fox", "generator": "charged"}))


async def test_a_call_that_would_pass_a_budget_is_refused_before_it_is_made(make_parts: Any, connect: Any) -> None:
    flat = FlatColourGenerator(size=(48, 32))
    budgets = Budgets.parse("2pictures/session")
    async with connect(make_parts(made={"flat": flat}, budgets=budgets)) as client:
        name = picture_of(await client.call_tool("draw", {"prompt": "a fox", "budget": "1picture"}))["id"]
        small = await client.call_tool("edit", {"image": name, "instruction": "a hen", "budget": "0pictures"})
        assert small.is_error and "The budget of this turn is 0 pictures" in text_of(small)
        picture_of(await client.call_tool("redraw", {"image": name, "seed": 5}))
        for tool, arguments in (("draw", {"prompt": "a cat"}), ("redraw", {"image": name})):
            refused = await client.call_tool(tool, arguments)
            assert refused.is_error and "The budget of this session is 2 pictures" in text_of(refused)
        wrong = await client.call_tool("draw", {"prompt": "a cat", "budget": "much"})
        assert wrong.is_error and "not an amount with a unit" in text_of(wrong)
        scoped = await client.call_tool("draw", {"prompt": "a cat", "budget": "9pictures/session"})
        assert scoped.is_error and "is for one scope" in text_of(scoped)
    assert len(flat.drawn) == 2
