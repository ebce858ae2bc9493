"""The page in a real browser: Debian's chromium, driven by Playwright."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mgem_agent.testing import FlatColourGenerator

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
playwright_api = pytest.importorskip("playwright.sync_api")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="chromium is not installed"),
]

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
WAIT_MS = 60_000
PROBLEMS = Path(__file__).with_name("page_problems.js").read_text(encoding="utf-8").partition("\n")[2]
ANSWERS = {
    "Write it anew": "A quiet fox slept all day long.",
    "Write the title": "The Dragon and the Knight",
    "Plan a ": "1. The fire: A dragon spits fire.\n2. The knight: Bors walks through the smoke.",
    "Who appears": "Ember: a huge red dragon\nBors: a tall man",
    "What does its picture show?": "A wide desert.",
    "Write the text of number": "The desert burned that night. Nobody slept.",
}


def author(request: Any) -> str:
    content = request.dialogue[-1]["content"]
    question = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    story = next((said for key, said in ANSWERS.items() if key in question), None)
    return story or f"You said: {question[:40]} <h> a red fox in the snow </h>"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Any, open_service: Callable[..., Any], running: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Opens a tab of a browser on a new server; the browser must log nothing but refused requests."""
    closing: list[Callable[[], Any]] = []
    said: list[str] = []

    def opened(generator: Any = None, **options: Any) -> Any:
        service = open_service(script=[author], generator=generator or FlatColourGenerator(size=(96, 64)))
        server = running(service)
        address = server.__enter__()
        context = chromium.new_context(base_url=address, **options)
        closing.extend((lambda: server.__exit__(None, None, None), context.close))
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text) if "Security Policy" in message.text else None)
        return page

    yield opened
    for close in reversed(closing):
        close()
    assert said == []


def say(page: Any, text: str) -> None:
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Enter")


def check(page: Any) -> None:
    """Check names, labels, ids and the width of a page."""
    assert page.evaluate(PROBLEMS) == [], page.url


def test_a_chat_draws_and_takes_pictures(tab: Callable[..., Any], tmp_path: Path) -> None:
    page = tab(FlatColourGenerator(size=(96, 64), delay_s=4.0, num_steps=40))
    page.goto("/")
    check(page)
    say(page, "Draw a fox.")
    page.wait_for_url("**/chats/*")
    page.get_by_role("progressbar").wait_for()
    page.locator("article.answer").wait_for()
    image = page.get_by_role("img", name="a red fox in the snow")
    assert image.count() == 1 and image.get_attribute("width") == "288"
    Image.new("RGB", (40, 40), "blue").save(tmp_path / "blue.png")
    page.get_by_label("Add pictures").set_input_files(tmp_path / "blue.png")
    assert page.locator("#attachments img").count() == 1
    page.get_by_role("button", name="Remove the picture blue.png").click()
    assert page.locator("#attachments img").count() == 0
    page.get_by_label("Add pictures").set_input_files(tmp_path / "blue.png")
    say(page, "What is it?")
    page.locator("article.answer").nth(1).wait_for()
    assert page.locator(".user img").count() == 1 and page.locator("#attachments img").count() == 0
    assert page.locator("#announcer").text_content().strip() == "The answer is complete."
    assert page.evaluate("document.activeElement.id") == "text"
    check(page)


def test_a_pasted_picture_is_sent(tab: Callable[..., Any]) -> None:
    page = tab()
    page.goto("/")
    page.evaluate(
        """async () => {
          const canvas = new OffscreenCanvas(8, 8);
          canvas.getContext("2d").fillRect(0, 0, 4, 4);
          const file = new File([await canvas.convertToBlob()], "pasted.png", { type: "image/png" });
          const data = new DataTransfer();
          data.items.add(file);
          document.getElementById("text").dispatchEvent(
            new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
        }"""
    )
    assert page.locator("#attachments img").count() == 1
    say(page, "What is it?")
    page.locator("article.answer").wait_for()
    assert page.locator(".user img").count() == 1


def test_a_reload_in_the_middle_loses_nothing(tab: Callable[..., Any]) -> None:
    page = tab(FlatColourGenerator(size=(64, 64), delay_s=12.0, num_steps=40))
    page.goto("/")
    say(page, "Draw a fox.")
    page.wait_for_url("**/chats/*")
    page.get_by_text(re.compile(r"Step \d+ of 40")).wait_for()
    page.reload()
    assert page.get_by_text("You said: Draw a fox.").count() == 1
    assert page.get_by_text("Draw a fox.", exact=True).locator("visible=true").count() >= 1
    page.locator("article.answer").wait_for()
    assert page.get_by_role("img", name="a red fox in the snow").count() == 1
    page.reload()
    assert page.locator("article.answer").count() == 1


def test_a_drawing_is_stopped_by_keyboard(tab: Callable[..., Any]) -> None:
    page = tab(FlatColourGenerator(size=(64, 64), delay_s=120.0, num_steps=600))
    page.goto("/")
    say(page, "Draw a fox.")
    page.get_by_text(re.compile(r"Step \d+ of 600")).wait_for()
    stop = page.get_by_role("button", name="Stop")
    stop.focus()
    before = page.get_by_role("progressbar").get_attribute("value")
    playwright_api.expect(page.get_by_role("progressbar")).not_to_have_attribute("value", str(before))
    assert page.evaluate("document.activeElement.textContent.trim()") == "Stop"  # updates keep the focus
    page.keyboard.press("Enter")
    page.get_by_text("You stopped this answer.").wait_for()
    assert page.get_by_role("button", name="Send").is_enabled()


def test_an_error_is_shown_in_place_and_the_text_is_kept(tab: Callable[..., Any]) -> None:
    page = tab(FlatColourGenerator(size=(64, 64), delay_s=60.0, num_steps=200))
    page.goto("/")
    say(page, "Draw a fox.")
    page.get_by_text(re.compile(r"Step \d+ of 200")).wait_for()
    say(page, "More")
    page.get_by_role("alert").get_by_text("answering already").wait_for()
    assert page.get_by_role("textbox", name="Message").input_value() == "More"
    page.get_by_role("button", name="Close the message").click()
    page.get_by_role("button", name="Stop").click()
    page.locator("article.answer").wait_for()


def test_the_gallery_searches_as_one_types_and_redraws(tab: Callable[..., Any]) -> None:
    page = tab()
    page.goto("/")
    say(page, "Draw a fox.")
    page.locator("article.answer").wait_for()
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Gallery").click()
    page.wait_for_url("**/gallery")
    check(page)
    page.get_by_label("Prompt").fill("nothing like it")
    page.get_by_text("No picture matches.").wait_for()
    assert "words=nothing" in page.url
    page.get_by_label("Prompt").fill("fox")
    page.get_by_role("link", name="a red fox in the snow").click()
    page.wait_for_url("**/gallery/img-*")
    page.get_by_text("Draw again").first.click()
    check(page)
    page.get_by_label("Prompt").fill("a red fox at night")
    page.get_by_role("button", name="Draw again").click()
    page.get_by_role("heading", name="Versions, oldest first").wait_for()
    check(page)
    page.get_by_role("link", name="Compare").first.click()
    page.wait_for_url("**/gallery/compare*")
    check(page)
    assert page.locator("tr.differs").count() >= 2


def test_a_story_from_a_premise_to_the_book(tab: Callable[..., Any]) -> None:
    page = tab(FlatColourGenerator(size=(96, 64), delay_s=15.0, num_steps=60))
    page.goto("/stories")
    check(page)
    page.get_by_label("Premise").fill("A dragon and a knight.")
    page.get_by_text("More choices").click()
    page.get_by_label("Number of scenes").fill("2")
    page.get_by_role("button", name="Begin").click()
    page.get_by_role("heading", name="The outline").wait_for()
    check(page)
    page.get_by_label("Scene 1").fill("The lake: A dragon swims.")
    page.get_by_role("button", name="Approve and write the pages").click()
    page.get_by_role("progressbar").first.wait_for()
    page.reload()
    page.get_by_role("link", name="Read the book").wait_for()
    check(page)
    assert page.locator(".sheet img").count() == 2
    second = page.get_by_role("region", name="Page 2")
    second.get_by_text("Change this page").click()
    check(page)
    second.get_by_label("Your wish for the text (optional)").fill("Make it quiet.")
    second.get_by_role("button", name="Write the text again").click()
    page.locator("p.told", has_text="A quiet fox slept all day long.").wait_for()  # also in the open form
    page.get_by_role("link", name="Read the book").click()
    page.wait_for_url("**/book.html")
    assert page.get_by_role("heading", name="The Dragon and the Knight").is_visible()
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert background not in ("rgba(0, 0, 0, 0)", "rgb(255, 255, 255)")  # its own styles are allowed by their hashes


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways(tab: Callable[..., Any], scheme: str) -> None:
    page = tab(color_scheme=scheme, **PHONE)
    page.goto("/")
    check(page)
    page.get_by_role("textbox", name="Message").fill("Draw a fox with-a-very-long-word-" + "x" * 80)
    page.get_by_role("button", name="Send").tap()
    page.locator("article.answer").wait_for()
    check(page)
    chat = page.url
    for address in ("/chats", "/gallery", "/stories", chat):
        page.goto(address)
        check(page)
    page.goto("/gallery")
    page.get_by_role("link", name="a red fox in the snow").tap()
    page.wait_for_url("**/gallery/img-*")
    check(page)


def test_it_works_without_scripts(tab: Callable[..., Any]) -> None:
    page = tab(java_script_enabled=False)
    page.goto("/")
    page.get_by_role("textbox", name="Message").fill("Draw a fox.")
    page.get_by_role("button", name="Send").click()
    page.wait_for_url("**/chats/*")
    for _ in range(50):
        if page.locator("article.answer").count():
            break
        page.wait_for_timeout(200)
        page.reload()
    assert page.get_by_role("img", name="a red fox in the snow").count() == 1


def test_keyboard_order_begins_with_the_content_link(tab: Callable[..., Any]) -> None:
    page = tab()
    page.goto("/gallery")
    page.keyboard.press("Tab")
    assert json.loads(page.evaluate("JSON.stringify(document.activeElement.textContent)")) == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "words"
