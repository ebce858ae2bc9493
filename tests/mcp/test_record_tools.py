"""The tools `lineage` and `generators`."""

from __future__ import annotations

from typing import Any

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import GeneratorUnavailableError
from mgem_agent.mcp.record_tools import MAX_PICTURES, lineage_of


async def test_lineage_lists_a_picture_and_its_ancestors(make_parts: Any, connect: Any, store: ArtifactStore) -> None:
    async with connect(make_parts()) as client:
        first = (await client.call_tool("draw", {"prompt": "a fox"})).structured_content["picture"]["id"]
        edit = {"image": first, "instruction": "make it night"}
        second = (await client.call_tool("edit", edit)).structured_content["picture"]["id"]
        facts = (await client.call_tool("lineage", {"image": second})).structured_content
        assert [(each["id"], each["parents"]) for each in facts["pictures"]] == [(second, [first]), (first, [])]
        store.path(first).unlink()
        result = await client.call_tool("lineage", {"image": second})
        assert result.structured_content["missing"] == [first]
        assert f"{first}: no longer stored" in result.content[0].text


async def test_a_long_lineage_is_cut(make_parts: Any, connect: Any, store: ArtifactStore) -> None:
    async with connect(make_parts()) as client:
        name = (await client.call_tool("draw", {"prompt": "a fox"})).structured_content["picture"]["id"]
        for number in range(MAX_PICTURES + 1):
            args = {"image": name, "instruction": f"step {number} " + "in many words " * 40}
            name = (await client.call_tool("edit", args)).structured_content["picture"]["id"]
    facts = lineage_of(name, store)
    assert (len(facts.pictures), facts.num_more) == (MAX_PICTURES, 2)
    assert len(facts.model_dump_json()) < 50_000


async def test_generators_are_listed_with_what_they_can_do(make_parts: Any, connect: Any) -> None:
    def make(name: str) -> Any:
        if name == "broken":
            raise GeneratorUnavailableError("The generator 'broken' cannot be loaded. Update that package.")
        return make_parts().generator(name)

    async with connect(make_parts(generators=("flat", "charged", "broken"), make_generator=make)) as client:
        result = await client.call_tool("generators", {})
        flat, charged, broken = result.structured_content["generators"]
        assert flat["is_default"] and not flat["costs_money"] and "inpaint" in flat["tasks"]
        assert charged["costs_money"] and not charged["is_default"]
        assert "cannot be loaded" in broken["problem"]
        assert result.content[0].text.splitlines()[1].startswith("charged: costs money;")
