"""The gallery: search, a picture's page, downloads, and new versions beside the old ones."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Callable
from typing import Any

from PIL import Image

from mgem_agent.testing import FlatColourGenerator

Browse = Callable[..., Any]
FOX = ["Here. <h> a red fox </h>", "Here. <h> a blue cat </h>"]


class Paced(FlatColourGenerator):
    """Cards that can become slow."""

    def pace(self, delay_s: float) -> None:
        self._delay_s = delay_s


def shown(page: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r'href="/gallery/(img-[0-9a-f]+)"', page)))


def is_live(page: str) -> bool:
    return "sse-connect" in page


def png(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), color).save(buffer, "PNG")
    return buffer.getvalue()


async def two(browser: Any) -> tuple[str, str, str]:
    """Draw a fox and a cat, and return their ids and the address of their chat."""
    chat, _ = await browser.ask("One")
    fox = shown(await browser.load("/gallery"))[0]
    await browser.ask("Two", chat=chat)
    cat = next(name for name in shown(await browser.load("/gallery")) if name != fox)
    return fox, cat, chat


async def test_search_filters_and_a_part_for_htmx(browse: Browse) -> None:
    async def test(browser: Any) -> None:
        fox, cat, chat = await two(browser)
        session = chat.rpartition("/")[2]
        assert set(shown(await browser.load("/gallery"))) == {fox, cat}
        assert shown(await browser.load("/gallery?words=FOX")) == [fox]
        assert set(shown(await browser.load(f"/gallery?session={session}&generator=flat&model=flat-colour"))) == {
            fox,
            cat,
        }
        assert "No picture matches" in await browser.load("/gallery?session=other")
        part = await browser.client.get("/gallery?words=cat", headers={"HX-Request": "true"})
        assert part.text.lstrip().startswith('<section id="found"') and shown(part.text) == [cat]

    await browse(test, script=FOX)


async def test_a_picture_has_its_facts_and_files(browse: Browse) -> None:
    async def test(browser: Any) -> None:
        fox, _, _ = await two(browser)
        page = await browser.load(f"/gallery/{fox}")
        for fact in ("a red fox", "flat-colour", "64 × 48 px", fox):
            assert fact in page
        file = await browser.client.get(f"/gallery/{fox}/download")
        assert f"{fox}.png" in file.headers["content-disposition"] and file.headers["content-type"] == "image/png"
        with Image.open(io.BytesIO(file.content)) as image:
            assert "a red fox" in image.info["parameters"]
        recipe = json.loads((await browser.client.get(f"/gallery/{fox}/recipe.json")).text)
        assert recipe["request"]["prompt"] == "a red fox" and recipe["generator"] == "flat"
        thumbnail = await browser.client.get(f"/thumbnails/{fox}?size=384")
        assert thumbnail.headers["content-type"] == "image/webp"
        assert (await browser.client.get(f"/thumbnails/{fox}?size=5")).status_code == 404

    await browse(test, script=FOX)


async def test_versions_are_new_pictures_beside_the_old_one(browse: Browse) -> None:
    generator = FlatColourGenerator(size=(64, 48))

    async def test(browser: Any) -> None:
        fox, _, _ = await two(browser)
        address = f"/gallery/{fox}"
        before = (await browser.client.get(f"{address}/download")).content

        async def change(kind: str, files: Any = None, **fields: Any) -> str:
            response = await browser.send(f"{address}/{kind}", files=files, **fields)
            assert response.status_code == 200, response.text
            return await browser.until(address, lambda text: not is_live(text))

        same = await change("redraw")
        assert "the same picture, byte for byte" in same and len(shown(await browser.load("/gallery"))) == 2
        await change("redraw", prompt="a red fox at night", seed="9")
        assert (generator.drawn[-1].prompt, generator.drawn[-1].seed) == ("a red fox at night", 9)
        await change("vary", number="2", strength="0.3")
        assert {request.image for request in generator.drawn[-2:]} == {fox}
        await change("edit", instruction="make it night", strength="0.5")
        assert generator.drawn[-1].task == "image_to_image"
        page = await change("edit", files={"mask": ("m.png", png("white"), "image/png")}, instruction="a moon")
        assert generator.drawn[-1].task == "inpaint" and generator.drawn[-1].mask is not None
        versions = re.findall(r'<ul class="versions">.*?</ul>', page, re.DOTALL)[0]
        assert len(shown(versions)) == 6 and "Compare" in versions
        assert (await browser.client.get(f"{address}/download")).content == before
        assert "Made into" in page and "Made from" in await browser.load(f"/gallery/{shown(versions)[-1]}")

    await browse(test, script=FOX, generator=generator)


async def test_a_drawing_goes_on_over_a_reload_and_is_stopped(browse: Browse) -> None:
    generator = Paced(size=(16, 16), num_steps=400)

    async def test(browser: Any) -> None:
        fox, _, _ = await two(browser)
        generator.pace(60)
        address = f"/gallery/{fox}"
        await browser.send(f"{address}/redraw", prompt="another fox")
        for _ in range(2):
            await browser.until(address, lambda text: is_live(text) and "Step " in text)
        busy = await browser.send(f"{address}/vary", number="1")
        assert busy.status_code == 400 and "is being drawn" in busy.text
        await browser.send(f"{address}/stop")
        await browser.until(address, lambda text: not is_live(text))
        assert len(shown(await browser.load("/gallery"))) == 2

    await browse(test, script=FOX, generator=generator)


async def test_a_finished_variation_is_kept_if_the_next_one_fails(browse: Browse) -> None:
    generator = FlatColourGenerator(size=(16, 16), fail_on="night")

    async def test(browser: Any) -> None:
        fox, _, _ = await two(browser)
        await browser.send(f"/gallery/{fox}/redraw", prompt="a night")
        page = await browser.until(f"/gallery/{fox}", lambda text: not is_live(text))
        assert "Not drawn." in page and "came out blank" in page

    await browse(test, script=FOX, generator=generator)


async def test_two_pictures_are_compared(browse: Browse) -> None:
    async def test(browser: Any) -> None:
        fox, cat, _ = await two(browser)
        page = html.unescape(await browser.load(f"/gallery/compare?picture={fox}&picture={cat}"))
        rows = dict(re.findall(r'<tr( class="differs")?><th scope="row">(\w+)</th>', page)[::1])
        assert rows.get(' class="differs"') is not None and "a red fox" in page and "a blue cat" in page
        assert (await browser.client.get(f"/gallery/compare?picture={fox}")).status_code == 400

    await browse(test, script=FOX)


async def test_wrong_fields_are_errors(browse: Browse) -> None:
    async def test(browser: Any) -> None:
        fox, _, _ = await two(browser)
        for kind, fields in (
            ("redraw", {"seed": "x"}),
            ("vary", {"number": "99"}),
            ("vary", {"strength": "2"}),
            ("edit", {"instruction": " "}),
            ("edit", {"instruction": "x", "strength": "much"}),
            ("redraw", {"generator": "other"}),
        ):
            response = await browser.send(f"/gallery/{fox}/{kind}", **fields)
            assert response.status_code in (400, 404) and 'role="alert"' in response.text, (kind, fields)

    await browse(test, script=FOX)
