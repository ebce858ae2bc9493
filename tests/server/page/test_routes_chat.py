"""The chat: messages, pictures, progress, decisions, undo, fork, and reloads at any moment."""

from __future__ import annotations

import asyncio
import html
import io
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.errors import ReasonerUnavailableError
from mgem_agent.server.page.chat_actions import ChatActions, ChatOptions
from mgem_agent.server.page.page_state import PageState
from mgem_agent.server.security import LOCAL_USER
from mgem_agent.testing import FlatColourGenerator

Browse = Callable[..., Any]


def answers(page: str) -> list[str]:
    return re.findall(r'<article class="turn answer".*?</article>', page, re.DOTALL)


def pictures(page: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r'src="/thumbnails/(img-[0-9a-f]+)', page)))


def is_live(page: str) -> bool:
    return "sse-connect" in page


def png(color: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 12), color).save(buffer, "PNG")
    return buffer.getvalue()


def slow(delay_s: float = 30) -> FlatColourGenerator:
    return FlatColourGenerator(size=(32, 32), delay_s=delay_s, num_steps=100)


async def test_an_answer_with_a_picture(browse: Browse) -> None:
    async def test(browser: Any) -> None:
        address, page = await browser.ask("Draw a **fox** <b>now</b>.")
        assert "Draw a **fox** &lt;b&gt;now&lt;/b&gt;." in page
        answer = answers(page)[0]
        assert "<p>Here it <em>is</em>.</p>" in answer and 'alt="a red fox"' in answer
        assert re.search(r'<img src="/thumbnails/img-[0-9a-f]+\?size=1024" width="256" height="192"', answer)
        assert "Draw a **fox**" in html.unescape(await browser.load("/chats"))
        assert address in await browser.load("/")

    await browse(test, script=["Here it *is*. <h> a red fox </h>"])


async def test_a_picture_is_sent_and_stays(browse: Browse) -> None:
    async def test(browser: Any) -> None:
        files = [("pictures", ("a.png", png(), "image/png")), ("pictures", ("b.png", png("blue"), "image/png"))]
        address, page = await browser.ask("What is it?", files=files)
        sent = pictures(page)
        assert len(sent) == 2
        await browser.ask("And now?", chat=address, picture_ids=sent[0])
        assert len(re.findall('class="sent"', await browser.load(address))) == 3

    await browse(test)


async def test_a_file_that_is_no_picture_is_refused_and_nothing_is_begun(browse: Browse) -> None:
    async def test(browser: Any) -> None:
        files = [("pictures", ("a.png", b"not a picture", "image/png"))]
        response = await browser.send("/chats", text="Look", files=files)
        assert response.status_code == 400 and "a.png" in response.text
        many = [("pictures", (f"{n}.png", png(), "image/png")) for n in range(3)]
        response = await browser.send("/chats", text="Look", files=many)
        assert response.status_code == 400 and "at most 2" in response.text
        assert "No chats yet" in await browser.load("/chats")

    await browse(test, max_pictures_in=2)


async def test_a_reload_in_the_middle_shows_what_runs_and_stop_ends_it(browse: Browse) -> None:
    async def test(browser: Any) -> None:
        response = await browser.send("/chats", text="Draw.")
        address = response.url.path
        for _ in range(2):
            page = await browser.until(address, lambda text: "Step " in text)
            assert is_live(page) and "a red fox" in page and re.search(r'<progress value="\d+" max="100"', page)
        busy = await browser.send(f"{address}/messages", text="More")
        assert busy.status_code == 400 and "answering already" in busy.text
        await browser.send(f"{address}/stop")
        page = await browser.until(address, lambda text: not is_live(text))
        assert "You stopped this answer." in page and "Not drawn" in page

    await browse(test, script=["Wait. <h> a red fox </h>"], generator=slow())


async def test_a_drawing_is_skipped_and_the_turn_is_complete(browse: Browse) -> None:
    async def test(browser: Any) -> None:
        address = (await browser.send("/chats", text="Draw.")).url.path
        await browser.until(address, lambda text: "Step " in text)
        await browser.send(f"{address}/skip")
        page = await browser.until(address, lambda text: not is_live(text))
        assert "Not drawn" in page and "You stopped" not in page

    await browse(test, script=["Wait. <h> a red fox </h>"], generator=slow())


async def test_events_show_the_state_and_then_end(browse: Browse) -> None:
    async def test(browser: Any) -> None:
        address = (await browser.send("/chats", text="Draw.")).url.path
        events = (await browser.client.get(f"{address}/events")).text
        names = re.findall(r"^event: (\w+)", events, re.MULTILINE)
        assert names[-1] == "done" and set(names[:-1]) == {"update"}
        assert 'hx-swap-oob="true"' in events and re.search(r"Step \d of 4", events) and "a red fox" in events
        after = (await browser.client.get(f"{address}/events")).text
        assert re.findall(r"^event: (\w+)", after, re.MULTILINE) == ["done"]
        latest = await browser.load(f"{address}/latest")
        assert len(answers(latest)) == 1 and "The answer is complete." in latest

    await browse(test, script=["See. <h> a red fox </h>"], generator=FlatColourGenerator(size=(16, 16), delay_s=0.5))


async def test_a_message_by_htmx_adds_to_the_page(browse: Browse) -> None:
    async def test(browser: Any) -> None:
        address, _ = await browser.ask("One")
        part = await browser.client.post(f"{address}/messages", data={"text": "Two"}, headers={"HX-Request": "true"})
        assert "<html" not in part.text and "Two" in part.text and is_live(part.text)
        assert '<form id="composer"' in part.text and 'hx-swap-oob="true"' in part.text

    await browse(test)


async def test_captions_wait_for_a_decision_and_can_be_edited(browse: Browse) -> None:
    generator = FlatColourGenerator(size=(16, 16))

    async def test(browser: Any) -> None:
        address = (await browser.send("/chats", text="Draw.", confirm="true")).url.path
        page = await browser.until(address, lambda text: 'name="verdict"' in text)
        assert page.count('<textarea id="caption-') == 2 and not generator.drawn
        form = {"verdict": "draw", "caption-0": "a blue fox", "caption-1": "a cat", "skip-1": "true"}
        refused = await browser.send(f"{address}/messages", text="More")
        assert "unfinished" in refused.text
        await browser.send(
            f"{address}/decide",
            **form,
        )
        page = await browser.until(address, lambda text: len(answers(text)) == 1)
        assert [request.prompt for request in generator.drawn] == ["a blue fox"]
        assert "The person refused this picture." in page

    await browse(test, script=["<h> a fox </h> <h> a cat </h>"], generator=generator)


async def test_captions_are_refused(browse: Browse) -> None:
    generator = FlatColourGenerator(size=(16, 16))

    async def test(browser: Any) -> None:
        address = (await browser.send("/chats", text="Draw.", confirm="true")).url.path
        await browser.until(address, lambda text: 'name="verdict"' in text)
        await browser.send(f"{address}/decide", **{"verdict": "refuse", "caption-0": "a fox", "reason": "Too red."})
        page = await browser.until(address, lambda text: len(answers(text)) == 1)
        assert "Too red." in page and not generator.drawn

    await browse(test, script=["<h> a fox </h>"], generator=generator)


async def test_a_turn_that_fails_can_be_continued_or_dropped(browse: Browse) -> None:
    failure = ReasonerUnavailableError("The server does not answer. Start it.")

    async def test(browser: Any) -> None:
        address = (await browser.send("/chats", text="Hi")).url.path
        page = await browser.until(address, lambda text: "Drop this turn" in text)
        assert "The server does not answer. Start it." in page and "Hi" in page
        await browser.send(f"{address}/resume")
        page = await browser.until(address, lambda text: len(answers(text)) == 1)
        assert "Better now." in page

    await browse(test, script=[failure, "Better now."])


async def test_undo_and_fork(browse: Browse) -> None:
    async def test(browser: Any) -> None:
        address, _ = await browser.ask("One")
        await browser.ask("Two", chat=address)
        fork = await browser.send(f"{address}/fork", turn="1")
        assert fork.url.path != address and len(answers(fork.text)) == 1
        assert len(answers(await browser.load(address))) == 2
        page = await browser.send(f"{address}/undo")
        assert len(answers(page.text)) == 1 and "Two" not in page.text
        page = await browser.send(f"{address}/undo")
        assert page.url.path == "/"
        wrong = await browser.send(f"{fork.url.path}/fork", turn="7")
        assert wrong.status_code == 400
        await browser.send(f"{fork.url.path}/delete")
        await browser.load(fork.url.path, 404)

    await browse(test)


async def test_words_are_drawn_unchanged(browse: Browse) -> None:
    generator = FlatColourGenerator(size=(16, 16))

    async def test(browser: Any) -> None:
        _, page = await browser.ask("a fox, ink on paper", mode="direct")
        assert [request.prompt for request in generator.drawn] == ["a fox, ink on paper"]
        assert len(pictures(page)) == 1

    await browse(test, script=[ValueError("not asked")], generator=generator)


async def test_a_full_queue_gives_the_message_back(browse: Browse) -> None:
    async def test(browser: Any) -> None:
        first = (await browser.send("/chats", text="Draw.")).url.path
        await browser.until(first, lambda text: "Step " in text)
        second = (
            await browser.send("/chats", text="A long message.", files=[("pictures", ("a.png", png(), "image/png"))])
        ).url.path
        page = await browser.until(second, lambda text: not is_live(text))
        assert "1 requests run" in page and "Your message is in the box again." in page
        assert re.search(r"<textarea[^>]*>A long message.</textarea>", page) and 'name="picture_ids"' in page
        await browser.send(f"{first}/stop")
        await browser.until(first, lambda text: not is_live(text))

    await browse(test, script=["<h> a fox </h>"], generator=slow(), workers=1, queue=0)


async def test_a_turn_that_waits_is_stopped_before_it_begins(browse: Browse) -> None:
    async def test(browser: Any) -> None:
        first = (await browser.send("/chats", text="Draw.")).url.path
        await browser.until(first, lambda text: "Step " in text)
        second = (await browser.send("/chats", text="Later.")).url.path
        assert "Waiting for a free place" in await browser.load(second)
        await browser.send(f"{second}/stop")
        page = await browser.until(second, lambda text: not is_live(text))
        assert "It was stopped before it began." in page and ">Later.</textarea>" in page
        await browser.send(f"{first}/stop")
        await browser.until(first, lambda text: not is_live(text))

    await browse(test, script=["<h> a fox </h>"], generator=slow(), workers=1)


async def test_a_picture_of_the_gallery_is_used_in_a_new_chat(browse: Browse) -> None:
    async def test(browser: Any) -> None:
        _, page = await browser.ask("Draw.")
        picture = pictures(page)[0]
        home = await browser.load(f"/?picture={picture}")
        assert f'name="picture_ids" value="{picture}"' in home
        assert 'name="picture_ids"' not in await browser.load("/?picture=img-0000000000")

    await browse(test, script=["<h> a fox </h>"])


async def test_a_turn_that_is_saved_is_shown_once(open_service: Callable[..., Any]) -> None:
    service = open_service(script=["Hi."])
    chats = ChatActions(PageState(service))
    turn = chats.say(LOCAL_USER, "s", "Hello", [], ChatOptions())
    await turn.wait()
    turn.is_over = False  # the moment between the save and the end of the run
    view = chats.view(LOCAL_USER, "s")
    assert len(view["chat"].turns) == 1 and view["live"] is None
    turn.is_over = True
    await service.close()


async def test_a_message_between_the_save_and_the_end_of_a_turn_is_taken(
    browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, stream = threading.Event(), MgemAgent.stream

    def late(agent: MgemAgent, *given: Any, **options: Any) -> Any:
        yield from stream(agent, *given, **options)
        assert ended.wait(10)

    monkeypatch.setattr(MgemAgent, "stream", late)

    async def test(browser: Any) -> None:
        address, _ = await browser.ask("First")  # shown as finished; its run has not ended
        sending = asyncio.create_task(browser.send(f"{address}/messages", text="Second"))
        done, _ = await asyncio.wait([sending], timeout=0.1)
        assert not done
        ended.set()
        assert (await sending).status_code == 200
        await browser.until(address, lambda text: len(answers(text)) == 2 and not is_live(text))

    await browse(test)


async def test_two_messages_at_once_begin_one_turn(browse: Browse) -> None:
    asked = threading.Event()

    def wait(request: Any) -> str:
        asked.wait(5)
        return "Done."

    async def test(browser: Any) -> None:
        address, _ = await browser.ask("First")
        sent = await asyncio.gather(*(browser.send(f"{address}/messages", text=f"m{n}") for n in range(3)))
        assert sorted(each.status_code for each in sent) == [200, 400, 400]
        asked.set()
        await browser.until(address, lambda text: len(answers(text)) == 2)

    await browse(test, script=["Hi.", wait])


@pytest.mark.parametrize("key", ["unknown", "~!!"])
async def test_a_chat_that_does_not_exist(browse: Browse, key: str) -> None:
    async def test(browser: Any) -> None:
        response = await browser.client.get(f"/chats/{key}")
        assert response.status_code in (400, 404) and "chat" in response.text.lower()

    await browse(test)
