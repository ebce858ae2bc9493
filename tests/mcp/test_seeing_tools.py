"""The tools `look` and `read_text`."""

from __future__ import annotations

from typing import Any

import pytest

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import ImageRequest, draw
from mgem_agent.tools.reading import can_read_text


@pytest.fixture
def fox(store: ArtifactStore) -> str:
    [*_, result] = draw(FlatColourGenerator(size=(160, 48)), [ImageRequest(prompt="A RED FOX", seed=7)])
    return store.put(result).id  # type: ignore[arg-type]


async def test_a_picture_is_judged_against_its_caption(make_parts: Any, connect: Any, fox: str) -> None:
    verdict = '{"answers": ["yes", "no"], "problem": "There is no hat.", "caption": "a fox in a hat"}'
    async with connect(make_parts(verdict)) as client:
        result = await client.call_tool("look", {"image": fox, "caption": "a fox with a hat"})
        assert result.structured_content == {
            "image": fox,
            "follows": False,
            "score": 0.5,
            "problem": "There is no hat.",
            "better_caption": "a fox in a hat",
        }
        assert result.content[0].text.startswith(f"{fox} does not follow the caption.")


async def test_a_question_about_a_picture_is_answered(make_parts: Any, connect: Any, fox: str) -> None:
    async with connect(make_parts("It is red.")) as client:
        result = await client.call_tool("look", {"image": fox, "question": "Which colour?"})
        assert (result.content[0].text, result.structured_content["answer"]) == ("It is red.", "It is red.")


async def test_an_unknown_picture_is_an_error(make_parts: Any, connect: Any) -> None:
    async with connect(make_parts("yes")) as client:
        for args in ({"image": "img-0123abcd"}, {"image": "img-0123abcd", "question": "What?"}):
            result = await client.call_tool("look", args)
            assert result.is_error and "There is no picture 'img-0123abcd'" in result.content[0].text


async def test_without_a_model_that_sees_it_is_not_offered(make_parts: Any, connect: Any) -> None:
    for parts in (make_parts(), make_parts("yes", sees=False)):
        async with connect(parts) as client:
            assert "look" not in [tool.name for tool in (await client.list_tools()).tools]


@pytest.mark.skipif(not can_read_text(), reason="needs the extra ocr")
async def test_text_is_read_with_its_place(make_parts: Any, connect: Any, fox: str) -> None:
    async with connect(make_parts()) as client:
        result = await client.call_tool("read_text", {"image": fox})
        facts = result.structured_content
        assert "RED FOX" in facts["text"].upper() and facts["num_lines"] == len(facts["lines"])
        assert len(facts["lines"][0]["box"]) == 4
