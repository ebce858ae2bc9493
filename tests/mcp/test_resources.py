"""Pictures, lineage and books as resources."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from PIL import Image

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.mcp.resources import PAGE_SIZE

SCENES = [{"text": "A mouse finds a key.", "caption": "a mouse with a golden key"}]
BOOK = {"title": "The key", "scenes": SCENES, "cast": [{"name": "Mouse", "looks": "a grey mouse"}]}


async def test_a_picture_and_its_lineage_can_be_read(make_parts: Any, connect: Any, store: ArtifactStore) -> None:
    given = store.put_picture(Image.new("RGB", (32, 32), "teal"), origin="sea.png")
    async with connect(make_parts()) as client:
        [content] = (await client.read_resource(f"mgem://pictures/{given.id}")).contents
        assert content.mime_type == "image/png" and base64.b64decode(content.blob).startswith(b"\x89PNG")
        [content] = (await client.read_resource(f"mgem://pictures/{given.id}/lineage")).contents
        assert json.loads(content.text)["image"] == given.id


async def test_a_book_can_be_read_in_three_forms(make_parts: Any, connect: Any) -> None:
    async with connect(make_parts()) as client:
        told = (await client.call_tool("tell_story", BOOK)).structured_content
        picture = told["pages"][0]["picture"]
        [markdown] = (await client.read_resource(told["uri"])).contents
        assert markdown.text.startswith("# The key") and f"](mgem://pictures/{picture})" in markdown.text
        [page] = (await client.read_resource(told["uri"] + "/book.html")).contents
        assert page.mime_type == "text/html" and "A mouse finds a key." in page.text
        [record] = (await client.read_resource(told["uri"] + "/story.json")).contents
        assert json.loads(record.text)["scenes"][0]["artifact_id"] == picture


async def test_books_and_pictures_are_listed_newest_first_in_pages(
    make_parts: Any, connect: Any, store: ArtifactStore
) -> None:
    for number in range(PAGE_SIZE):
        store.put_picture(Image.new("RGB", (8, 8), (number, 0, 0)), origin=f"{number}.png")
    async with connect(make_parts()) as client:
        told = (await client.call_tool("tell_story", BOOK)).structured_content
        first = await client.list_resources()
        assert (first.resources[0].uri, len(first.resources)) == (told["uri"], PAGE_SIZE)
        second = await client.list_resources(cursor=first.next_cursor)
        assert len(second.resources) == 2 and second.next_cursor is None
        uris = [each.uri for each in (*first.resources, *second.resources)]
        assert len(set(uris)) == PAGE_SIZE + 2
        with pytest.raises(MCPError, match="The cursor 'x' is not from an earlier page"):
            await client.list_resources(cursor="x")


async def test_templates_name_what_can_be_read(make_parts: Any, connect: Any) -> None:
    async with connect(make_parts()) as client:
        templates = [each.uri_template for each in (await client.list_resource_templates()).resource_templates]
    assert {"mgem://pictures/{id}", "mgem://pictures/{id}/lineage", "mgem://books/{id}"} <= set(templates)


@pytest.mark.parametrize(
    "uri",
    [
        "mgem://pictures/img-0123abcd",
        "mgem://pictures/../../etc/passwd",
        "mgem://books/no-such-book",
        "mgem://books/../pictures",
        "mgem://books/a/b/c",
        "mgem://other/x",
        "file:///etc/passwd",
    ],
)
async def test_what_is_no_resource_is_refused(make_parts: Any, connect: Any, uri: str) -> None:
    async with connect(make_parts()) as client:
        with pytest.raises(MCPError) as caught:
            await client.read_resource(uri)
        assert caught.value.error.code == -32602
