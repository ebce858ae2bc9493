"""A server with its page, and helpers to wait for what it does in the background."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

STEP_S = 0.02


class Browser:
    """What a browser does with the page, without scripts: loads pages and sends forms.

    Args:
        client: Its connection.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def load(self, address: str, status: int = 200) -> str:
        """Load a page."""
        response = await self.client.get(address, headers={"Accept": "text/html"}, follow_redirects=True)
        assert response.status_code == status, response.text
        return response.text

    async def send(self, address: str, files: Any = None, **fields: Any) -> httpx.Response:
        """Send a form, and follow to the page that it leads to."""
        data = {name: value for name, value in fields.items() if value is not None}
        return await self.client.post(address, data=data, files=files, follow_redirects=True)

    async def until(self, address: str, is_there: Callable[[str], Any], timeout_s: float = 10) -> str:
        """Load a page again and again until it shows something."""
        end = time.monotonic() + timeout_s
        while not is_there(text := await self.load(address)):
            assert time.monotonic() < end, text
            await asyncio.sleep(STEP_S)
        return text

    async def ask(self, text: str, chat: str | None = None, **fields: Any) -> tuple[str, str]:
        """Send a message, wait for the answer, and return the chat's address and page."""
        before = len(answers(await self.load(chat))) if chat else 0
        response = await self.send(f"{chat}/messages" if chat else "/chats", text=text, **fields)
        assert response.status_code == 200, response.text
        address = response.url.path
        return address, await self.until(address, lambda page: len(answers(page)) > before and not is_live(page))


def answers(page: str) -> list[str]:
    """Return the answers of a chat's page."""
    return re.findall(r'<article class="turn answer".*?</article>', page, re.DOTALL)


def pictures(page: str) -> list[str]:
    """Return the ids of the pictures that a page shows, in order."""
    return list(dict.fromkeys(re.findall(r'src="/thumbnails/(img-[0-9a-f]+)', page)))


def is_live(page: str) -> bool:
    """Whether something runs that the page follows."""
    return "sse-connect" in page


@pytest.fixture
def browse(open_service: Callable[..., Any], client_of: Callable[..., Any]) -> Callable[..., Any]:
    """Opens a server, and runs a test with a browser of its page."""

    async def run(test: Callable[[Browser], Awaitable[None]], token: str | None = None, **options: Any) -> None:
        async with client_of(open_service(**options), token) as client:
            await test(Browser(client))

    return run
