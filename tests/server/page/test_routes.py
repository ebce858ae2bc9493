"""Static files, the login, the policy of every page, and who may send forms."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from mgem_agent.server.page.rendering import STATIC
from mgem_agent.server.security import LOCAL_USER, Access, User

PAGES = ("/", "/chats", "/gallery", "/stories", "/login")
TOKEN = "a-token-of-sixteen-characters"
OTHER = "another-token-of-characters"


async def test_every_page_has_a_strict_policy_and_nothing_inline(browse: Callable[..., Any]) -> None:
    async def test(browser: Any) -> None:
        for address in PAGES:
            response = await browser.client.get(address)
            policy = response.headers["content-security-policy"]
            assert response.status_code == 200 and "unsafe" not in policy and "default-src 'none'" in policy
            assert response.headers["referrer-policy"] == "same-origin"
            assert "frame-ancestors 'none'" in policy and response.headers["x-content-type-options"] == "nosniff"
            assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|\son[a-z]+=|<style", response.text)
            assert not re.findall(r"(?:src|href|action)=\"(?:https?:)?//", response.text)

    await browse(test)


async def test_static_files_are_served_by_their_content(browse: Callable[..., Any]) -> None:
    async def test(browser: Any) -> None:
        page = await browser.load("/")
        found = re.findall(r"/static/[^\"]+", page)
        assert {address.split("?")[0] for address in found} >= {"/static/page.css", "/static/page.js"}
        for address in found:
            response = await browser.client.get(address)
            assert response.status_code == 200 and "immutable" in response.headers["cache-control"]
        for wrong in ("/static/..%2Frendering.py", "/static/none.js"):
            assert (await browser.client.get(wrong)).status_code == 404

    await browse(test)


def test_what_comes_from_others_has_its_licence() -> None:
    for name in ("htmx-LICENSE.txt", "htmx-sse-LICENSE.txt"):
        assert "Permission to use, copy, modify, and/or distribute" in (STATIC / name).read_text()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8765"},
    ],
)
async def test_other_pages_change_nothing(browse: Callable[..., Any], headers: dict[str, str]) -> None:
    async def test(browser: Any) -> None:
        response = await browser.client.post("/chats", data={"text": "Hi"}, headers=headers)
        assert response.status_code == 403
        assert "No chats yet" in await browser.load("/chats")

    # Such a page may use the API, but not the forms.
    await browse(test, access=Access(origins=frozenset(["http://127.0.0.1:9999"])))


async def test_an_error_is_a_page_or_a_part_for_htmx(browse: Callable[..., Any]) -> None:
    async def test(browser: Any) -> None:
        page = await browser.send("/chats", text=" ")
        assert page.status_code == 400 and "<html" in page.text and "The message is empty" in page.text
        part = await browser.client.post("/chats", data={"text": ""}, headers={"HX-Request": "true"})
        assert part.headers["hx-retarget"] == "#alerts" and "<html" not in part.text
        assert "Not found" in await browser.load("/gallery/img-0123456789ab", 404)

    await browse(test)


async def test_a_browser_without_the_token_logs_in(browse: Callable[..., Any]) -> None:
    async def test(browser: Any) -> None:
        for address in ("/", "/gallery", "/stories/x"):
            response = await browser.client.get(address, headers={"Accept": "text/html"})
            assert (response.status_code, response.headers.get("location")) == (303, "/login")
        assert (await browser.client.get("/", headers={"Accept": "application/json"})).status_code == 401
        assert (await browser.client.post("/chats", data={"text": "Hi"})).status_code == 401
        wrong = await browser.send("/login", token="wrong")
        assert wrong.status_code == 401 and "This is not the token" in wrong.text
        response = await browser.client.post("/login", data={"token": f" {TOKEN} "})
        cookie = response.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie
        assert "What should the picture show?" in await browser.load("/")
        await browser.send("/logout")
        assert "Log in" in await browser.load("/")

    await browse(test, access=Access(users={TOKEN: LOCAL_USER}))


async def test_users_see_their_own(browse: Callable[..., Any]) -> None:
    async def test(browser: Any) -> None:
        address, page = await browser.ask("Draw.")
        picture = re.findall(r"/thumbnails/(img-[0-9a-f]+)", page)[0]
        browser.client.headers["Authorization"] = f"Bearer {OTHER}"
        for hidden in (address, f"/gallery/{picture}", f"/thumbnails/{picture}", f"/gallery/{picture}/download"):
            await browser.load(hidden, 404)
        assert picture not in await browser.load("/gallery")
        assert "No chats yet" in await browser.load("/chats")

    access = Access(users={TOKEN: User("ann", "ann"), OTHER: User("bob", "bob")})
    await browse(test, TOKEN, script=["<h> a fox </h>"], access=access)
