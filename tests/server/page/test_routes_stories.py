"""The story desk: premise, recipe, outline, pages, revisions, and the book."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from mgem_agent.testing import FlatColourGenerator

Browse = Callable[..., Any]

ANSWERS = {
    "Write it anew": "A quiet fox slept all day long.",
    "Write the title": "The Dragon and the Knight",
    "Plan a ": "1. The fire: A dragon spits fire.\n2. The knight: Bors walks through the smoke.",
    "Who appears": "Ember: a huge red dragon\nBors: a tall man",
    "What does its picture show?": "A wide desert.",
    "Write the text of number": "The desert burned that night. Nobody slept.",
}
RECIPE = {
    "title": "The Key",
    "cast": [{"name": "Mouse", "looks": "a grey mouse"}],
    "scenes": [
        {"title": f"Part {n}", "text": f"A mouse finds key {n}.", "caption": f"a mouse, key {n}"} for n in (1, 2)
    ],
}


class Paced(FlatColourGenerator):
    """Cards that can become fast."""

    def pace(self, delay_s: float) -> None:
        self._delay_s = delay_s


def author(request: Any) -> str:
    content = request.dialogue[-1]["content"]
    question = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    return next((said for key, said in ANSWERS.items() if key in question), "")


def is_live(page: str) -> bool:
    return "sse-connect" in page


def recipe_file(**changes: Any) -> dict[str, Any]:
    return {"file": ("recipe.json", json.dumps(RECIPE | changes).encode(), "application/json")}


async def told(browser: Any, **fields: Any) -> tuple[str, str]:
    """Tell a story from a recipe, and return its address and page."""
    response = await browser.send("/stories", files=recipe_file(), **fields)
    assert response.status_code == 200, response.text
    address = response.url.path
    return address, await browser.until(address, lambda text: not is_live(text))


async def test_from_a_premise_over_the_outline_to_the_book(browse: Browse) -> None:
    generator = FlatColourGenerator(size=(32, 32))

    async def test(browser: Any) -> None:
        response = await browser.send("/stories", premise="A dragon and a knight.", scenes="2", approve="true")
        address = response.url.path
        page = await browser.until(address, lambda text: 'name="line-1"' in text)
        assert "The fire: A dragon spits fire." in page and 'value="Ember"' in page and not generator.drawn
        assert "The outline waits for you" in await browser.load("/stories")
        lines = {"line-1": "The lake: A dragon swims.", "line-2": "The knight: Bors walks through the smoke."}
        cast = {"name-0": "Ember", "looks-0": "a small green dragon", "name-1": "", "looks-1": ""}
        await browser.send(f"{address}/decide", verdict="approve", title="The Lake", **lines, **cast)
        page = await browser.until(address, lambda text: "Read the book" in text)
        assert "The Lake" in page and "The desert burned that night." in page
        assert "a small green dragon" in generator.drawn[0].prompt and len(generator.drawn) == 2
        assert len(re.findall('class="sheet-picture"', page)) == 2

    await browse(test, script=[author], generator=generator)


async def test_a_refused_outline_draws_nothing(browse: Browse) -> None:
    generator = FlatColourGenerator(size=(32, 32))

    async def test(browser: Any) -> None:
        address = (await browser.send("/stories", premise="A dragon.", scenes="2", approve="true")).url.path
        await browser.until(address, lambda text: 'name="line-1"' in text)
        wrong = await browser.send(f"{address}/decide", verdict="approve", title="x", **{"line-1": "only one"})
        page = await browser.until(wrong.url.path, lambda text: not is_live(text))
        assert "Give one line for each scene" in page
        await browser.send(f"{address}/decide", verdict="refuse")
        assert "You refused this outline" in await browser.until(address, lambda text: not is_live(text))
        assert not generator.drawn

    await browse(test, script=[author], generator=generator)


async def test_a_recipe_file_and_the_book_in_every_form(browse: Browse) -> None:
    async def test(browser: Any) -> None:
        address, page = await told(browser)
        assert "A mouse finds key 2." in page
        book = await browser.client.get(f"{address}/book.html")
        policy = book.headers["content-security-policy"]
        assert "The Key" in book.text and "'unsafe-inline'" not in policy and "sandbox" in policy
        pdf = await browser.client.get(f"{address}/book.pdf")
        assert pdf.content.startswith(b"%PDF") and pdf.headers["content-type"] == "application/pdf"
        archive = await browser.client.get(f"{address}/book.md")
        with zipfile.ZipFile(io.BytesIO(archive.content)) as files:
            names = files.namelist()
            text = files.read(names[0]).decode()
        linked = re.findall(r"\((pictures/img-[0-9a-f]+\.png)\)", text)
        assert linked and {f"{names[0].rpartition('/')[0]}/{name}" for name in linked} == set(names[1:])
        assert (await browser.client.get(f"{address}/book.doc")).status_code == 404
        assert (await browser.client.get(f"{address}/book.html?download=true")).headers["content-disposition"]

    await browse(test)


async def test_a_page_is_changed_alone(browse: Browse) -> None:
    generator = FlatColourGenerator(size=(32, 32))

    async def test(browser: Any) -> None:
        address, _ = await told(browser)

        async def change(what: str, **fields: Any) -> str:
            response = await browser.send(f"{address}/pages/2/{what}", **fields)
            assert response.status_code == 200, response.text
            return await browser.until(address, lambda text: not is_live(text))

        page = await change("rewrite", wish="Make it quiet.")
        assert "A quiet fox slept all day long." in page and "A mouse finds key 1." in page
        page = await change("words", title="Part two", text="My own words here.")
        assert "My own words here." in page and "Part two" in page
        page = await change("redraw", caption="a mouse on a boat", seed="3")
        assert len(generator.drawn) == 3 and "on a boat" in generator.drawn[-1].prompt
        earlier = re.findall(r'name="picture" value="(img-[0-9a-f]+)"', page)
        assert len(earlier) == 1
        page = await change("picture", picture=earlier[0])
        assert re.findall(r'name="picture" value="(img-[0-9a-f]+)"', page) != earlier
        assert (await browser.send(f"{address}/pages/2/words", text=" ")).status_code == 400
        await browser.send(f"{address}/pages/9/redraw")
        assert "is not written yet" in await browser.until(address, lambda text: not is_live(text))

    await browse(test, script=[author], generator=generator)


async def test_a_story_goes_on_over_a_reload_and_is_continued_after_a_stop(browse: Browse) -> None:
    generator = Paced(size=(32, 32), delay_s=60, num_steps=400)

    async def test(browser: Any) -> None:
        address = (await browser.send("/stories", files=recipe_file())).url.path
        for _ in range(2):
            await browser.until(address, lambda text: is_live(text) and "Step " in text)
        assert "In progress" in await browser.load("/stories")
        busy = await browser.send(f"{address}/resume")
        assert busy.status_code == 400 and "being worked on" in busy.text
        await browser.send(f"{address}/stop")
        page = await browser.until(address, lambda text: not is_live(text))
        assert "This story is not finished" in page
        generator.pace(0)
        await browser.send(f"{address}/resume")
        page = await browser.until(address, lambda text: not is_live(text))
        assert "not finished" not in page and len(re.findall(r"/thumbnails/", page)) == 2

    await browse(test, generator=generator)


async def test_a_story_is_continued_after_a_restart_of_the_server(browse: Browse) -> None:
    found: list[str] = []

    async def before(browser: Any) -> None:
        found.append((await browser.send("/stories", files=recipe_file())).url.path)
        await browser.until(found[0], lambda text: "Step " in text)

    async def after(browser: Any) -> None:
        assert "This story is not finished" in await browser.load(found[0])
        await browser.send(f"{found[0]}/resume")
        page = await browser.until(found[0], lambda text: not is_live(text))
        assert "not finished" not in page and len(re.findall(r"/thumbnails/", page)) == 2

    await browse(before, generator=FlatColourGenerator(size=(32, 32), delay_s=60, num_steps=400), drain_s=0)
    await browse(after, generator=FlatColourGenerator(size=(32, 32)))


async def test_events_of_a_story_show_its_pages(browse: Browse) -> None:
    async def test(browser: Any) -> None:
        address = (await browser.send("/stories", premise="A dragon.", scenes="2")).url.path
        events = (await browser.client.get(f"{address}/events")).text
        assert re.findall(r"^event: (\w+)", events, re.MULTILINE)[-1] == "done"
        for shown in ("The Dragon and the Knight", 'aria-label="Page 2"', "The desert burned that night."):
            assert shown in events
        assert "The story has stopped or is complete." in await browser.load(f"{address}/latest")

    await browse(test, script=[author], generator=FlatColourGenerator(size=(16, 16), delay_s=0.3))


async def test_shipped_recipes_are_offered_and_told(browse: Browse) -> None:
    async def test(browser: Any) -> None:
        assert 'value="the_night_train"' in await browser.load("/stories")
        address = (await browser.send("/stories", recipe="the_night_train")).url.path
        page = await browser.until(address, lambda text: not is_live(text))
        assert "Read the book" in page

    await browse(test, script=[author], generator=FlatColourGenerator(size=(16, 16)))


@pytest.mark.parametrize(
    ("fields", "files", "message"),
    [
        ({}, None, "Give one of three"),
        ({"premise": "x y", "recipe": "the_dragon"}, None, "Give one of three"),
        ({"recipe": "none"}, None, "There is no story recipe"),
        ({"premise": "x y", "scenes": "many"}, None, "is not a number of scenes"),
        ({"premise": "x y", "scenes": "999"}, None, "scenes"),
        ({"premise": "x y", "language": "?"}, None, "language"),
        ({}, {"file": ("a.txt", b"title: x", "text/plain")}, "is not a story recipe"),
        ({}, {"file": ("a.yaml", b"titel: x", "text/plain")}, "unknown key"),
        ({}, {"file": ("a.json", json.dumps(RECIPE | {"references": ["a.png"]}).encode(), "text/plain")}, "a.png"),
    ],
)
async def test_wrong_beginnings_are_errors(browse: Browse, fields: Any, files: Any, message: str) -> None:
    async def test(browser: Any) -> None:
        response = await browser.send("/stories", files=files, **fields)
        assert response.status_code in (400, 404) and message in response.text
        assert "/tmp" not in response.text and "No stories yet" in await browser.load("/stories")

    await browse(test)


@pytest.mark.parametrize("name", ["none", "A", "a--b"])
async def test_a_story_that_does_not_exist(browse: Browse, name: str) -> None:
    async def test(browser: Any) -> None:
        assert (await browser.client.get(f"/stories/{name}")).status_code in (400, 404)

    await browse(test)


async def test_the_budget_of_a_book(browse: Browse) -> None:
    generator = FlatColourGenerator(size=(32, 32))

    async def test(browser: Any) -> None:
        response = await browser.send("/stories", files=recipe_file(), budget="three pictures")
        assert "is not an amount with a unit" in response.text
        address, page = await told(browser, budget="1picture")
        assert len(generator.drawn) == 1 and "The budget of this book is 1 picture." in page
        assert 'value="1pictures"' in page, "a larger budget is asked for"
        await browser.send(f"{address}/resume", budget="2pictures")
        page = await browser.until(address, lambda text: "2 pages" in text or not is_live(text))
        assert len(generator.drawn) == 2 and "This story is not finished." not in page

    await browse(test, generator=generator)


async def test_the_budget_of_a_book_is_at_most_the_servers(browse: Browse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGEM_BUDGET__BOOK", "1picture")
    generator = FlatColourGenerator(size=(32, 32))

    async def test(browser: Any) -> None:
        _, page = await told(browser, budget="2pictures")
        assert len(generator.drawn) == 1 and "The budget of this book is 1 picture." in page

    await browse(test, generator=generator)
