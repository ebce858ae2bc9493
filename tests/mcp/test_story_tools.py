"""Books over MCP: told in the background, with a handle, approved by a person page by page."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.mcp import Books
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.tools import Budgets

SCENES = [
    {"text": "A mouse finds a key.", "caption": "a mouse with a golden key"},
    {"text": "It opens a door.", "caption": "a mouse at a door"},
]
BOOK = {"title": "The key", "scenes": SCENES, "cast": [{"name": "Mouse", "looks": "a grey mouse"}]}


async def facts_of(client: Any, name: str, **args: Any) -> dict[str, Any]:
    result = await client.call_tool(name, args)
    assert not result.is_error, result.content[0].text
    return result.structured_content


async def refusal_of(client: Any, name: str, **args: Any) -> str:
    result = await client.call_tool(name, args)
    assert result.is_error
    return result.content[0].text


async def test_a_book_is_told_and_its_pages_are_named(make_parts: Any, connect: Any) -> None:
    seen: list[tuple[float, float | None, str | None]] = []

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        seen.append((done, total, message))

    generator = FlatColourGenerator(size=(48, 32), delay_s=0.3)
    async with connect(make_parts(made={"flat": generator})) as client:
        result = await client.call_tool("tell_story", BOOK, progress_callback=on_progress)
        facts = result.structured_content
        assert (facts["state"], facts["num_drawn"], facts["title"]) == ("finished", 2, "The key")
        assert [page["status"] for page in facts["pages"]] == ["drawn", "drawn"]
        assert [block.type for block in result.content] == ["text", "image", "resource_link", "resource_link"]
        again = await facts_of(client, "story_status", book=facts["book"])
        assert again == facts
    done = [each[0] for each in seen]
    assert done == sorted(set(done)) and {total for _, total, _ in seen} == {5}


async def test_a_call_ends_before_its_book_and_the_book_goes_on(make_parts: Any, connect: Any) -> None:
    parts = make_parts(made={"flat": FlatColourGenerator(size=(48, 32), delay_s=0.5)})
    async with connect(parts) as client:
        facts = await facts_of(client, "tell_story", **BOOK, wait_s=0)
        assert facts["state"] == "working" and facts["next"].startswith("Call story_status")
        assert "is being told" in await refusal_of(client, "story_continue", book=facts["book"])
        facts = await facts_of(client, "story_status", book=facts["book"], wait_s=30)
        assert facts["state"] == "finished"


async def test_the_reasoner_writes_what_is_left_out(make_parts: Any, connect: Any) -> None:
    async with connect(make_parts("The golden key")) as client:
        facts = await facts_of(client, "tell_story", premise="A mouse finds a key.", num_scenes=1, kind="how_to")
        assert (facts["state"], facts["title"], facts["num_pages"]) == ("finished", "The golden key", 1)
    async with connect(make_parts()) as client:
        assert "no model that writes" in await refusal_of(client, "tell_story", premise="A mouse finds a key.")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, "There is no premise"),
        ({"premise": "A mouse.", "num_scenes": 100}, "less than or equal to 64"),
        ({"premise": "A mouse.", "wait_s": 100_000}, "wait_s"),
        ({**BOOK, "generator": "other"}, "There is no generator 'other' here"),
    ],
)
async def test_a_book_that_is_not_possible_is_refused(
    make_parts: Any, connect: Any, args: dict[str, Any], words: str
) -> None:
    async with connect(make_parts("yes")) as client:
        assert words in await refusal_of(client, "tell_story", **args)


async def test_an_outline_waits_for_a_decision_and_survives_a_restart(
    make_parts: Any, connect: Any, tmp_path: Path
) -> None:
    generator = FlatColourGenerator(size=(48, 32))
    parts = make_parts(made={"flat": generator})
    async with connect(parts) as client:
        facts = await facts_of(client, "tell_story", **BOOK, approve="outline")
        assert (facts["state"], facts["outline"]) == ("outline", ["A mouse finds a key.", "It opens a door."])
        assert facts["cast"] == ["Mouse: a grey mouse"] and generator.drawn == []
        assert "waits for a person" in await refusal_of(client, "story_continue", book=facts["book"])
    restarted = make_parts(made={"flat": generator}, books=Books(tmp_path / "books"))
    async with connect(restarted) as client:
        assert (await facts_of(client, "story_status", book=facts["book"]))["state"] == "outline"
        wrong = await refusal_of(client, "story_continue", book=facts["book"], decision="approve", outline=["one"])
        assert "Give one line for each scene" in wrong
        facts = await facts_of(client, "story_continue", book=facts["book"], decision="approve", title="The golden key")
        assert (facts["state"], facts["title"]) == ("finished", "The golden key")


async def test_a_refused_outline_is_not_drawn(make_parts: Any, connect: Any) -> None:
    generator = FlatColourGenerator(size=(48, 32))
    async with connect(make_parts(made={"flat": generator})) as client:
        book = (await facts_of(client, "tell_story", **BOOK, approve="outline"))["book"]
        assert (await facts_of(client, "story_continue", book=book, decision="refuse"))["state"] == "refused"
        assert "was refused" in await refusal_of(client, "story_continue", book=book)
    assert generator.drawn == []


async def test_pages_wait_one_by_one(make_parts: Any, connect: Any) -> None:
    generator = FlatColourGenerator(size=(48, 32))
    async with connect(make_parts(made={"flat": generator})) as client:
        book = (await facts_of(client, "tell_story", **BOOK, approve="pages"))["book"]
        facts = await facts_of(client, "story_continue", book=book, decision="approve")
        assert (facts["state"], facts["waiting_page"], len(generator.drawn)) == ("page", 1, 1)
        assert (facts["page_text"], facts["page_caption"]) == ("A mouse finds a key.", "a mouse with a golden key")
        assert "Page 1" in await refusal_of(client, "story_continue", book=book)
        assert "Say what to change" in await refusal_of(client, "story_continue", book=book, decision="refuse")

        first = facts["pages"][0]["picture"]
        facts = await facts_of(client, "story_continue", book=book, caption="a mouse with a silver key")
        assert (facts["state"], facts["waiting_page"], len(generator.drawn)) == ("page", 1, 2)
        assert facts["pages"][0]["picture"] != first
        facts = await facts_of(client, "story_continue", book=book, picture=first, text="A mouse finds two keys.")
        assert (facts["pages"][0]["picture"], facts["page_text"]) == (first, "A mouse finds two keys.")

        facts = await facts_of(client, "story_continue", book=book, decision="approve")
        assert (facts["state"], facts["waiting_page"], len(generator.drawn)) == ("page", 2, 3)
        facts = await facts_of(client, "story_continue", book=book, decision="approve")
        assert (facts["state"], facts["num_drawn"], len(generator.drawn)) == ("finished", 2, 3)


async def test_one_page_of_a_finished_book_can_be_changed(make_parts: Any, connect: Any) -> None:
    async with connect(make_parts("A mouse finds a silver key.")) as client:
        facts = await facts_of(client, "tell_story", **BOOK)
        book, before = facts["book"], [page["picture"] for page in facts["pages"]]
        facts = await facts_of(client, "story_continue", book=book, page=2, seed=9)
        after = [page["picture"] for page in facts["pages"]]
        assert facts["state"] == "finished" and after[0] == before[0] and after[1] != before[1]
        assert "The book has 2 pages" in await refusal_of(client, "story_continue", book=book, page=3, seed=9)
        wrong = await refusal_of(client, "story_continue", book=book, page=1, picture="img-0123abcd")
        assert "is not an earlier picture of page 1" in wrong


async def test_a_person_decides_where_the_client_can_ask(make_parts: Any, connect: Any, person: Any) -> None:
    asked = person(
        {"decision": "approve", "title": "The golden key"},
        {"decision": "change", "text": "A mouse finds a key.", "caption": "a mouse with a silver key"},
        {"decision": "approve"},
        None,
    )
    generator = FlatColourGenerator(size=(48, 32))
    async with connect(make_parts(made={"flat": generator}), asked) as client:
        book = (await facts_of(client, "tell_story", **BOOK, approve="pages"))["book"]
        facts = await facts_of(client, "story_continue", book=book)
        assert (facts["title"], facts["waiting_page"]) == ("The golden key", 1)
        facts = await facts_of(client, "story_continue", book=book)
        assert (facts["page_caption"], len(generator.drawn)) == ("a mouse with a silver key", 2)
        facts = await facts_of(client, "story_continue", book=book)
        assert facts["waiting_page"] == 2
        assert "gave no decision" in await refusal_of(client, "story_continue", book=book)
    assert asked.questions[0].message == "Draw this book?\n\n1. A mouse finds a key.\n2. It opens a door."


async def test_with_confirm_a_model_cannot_decide(make_parts: Any, connect: Any, person: Any) -> None:
    async with connect(make_parts(confirm=True)) as client:
        facts = await facts_of(client, "tell_story", **BOOK)
        assert facts["state"] == "outline"
        refused = await refusal_of(client, "story_continue", book=facts["book"], decision="approve")
        assert "A person decides about books here" in refused
    async with connect(make_parts(confirm=True), person({"decision": "refuse"})) as client:
        facts = await facts_of(client, "story_continue", book=facts["book"], decision="approve")
        assert facts["state"] == "refused"


async def test_a_book_that_costs_money_needs_a_person(make_parts: Any, connect: Any, person: Any, charged: Any) -> None:
    args = {**BOOK, "generator": "charged"}
    async with connect(make_parts()) as client:
        assert "--spend allow" in await refusal_of(client, "tell_story", **args)
    asked = person({"agreed": True}, {"decision": "change", "caption": "a cat"}, {"agreed": True})
    async with connect(make_parts(), asked) as client:
        facts = await facts_of(client, "tell_story", **args, approve="none")
        assert facts["state"] == "finished" and asked.questions[0].message.startswith("Draw a book of 2 pictures")
    asked = person({"decision": "change", "caption": "a cat"}, {"agreed": True})
    async with connect(make_parts(confirm=True), asked) as client:
        num_before = len(charged.drawn)
        facts = await facts_of(client, "story_continue", book=facts["book"], page=1)
        assert len(charged.drawn) == num_before + 1 and len(asked.questions) == 2


async def test_a_cancelled_call_stops_its_book_which_can_be_continued(make_parts: Any, connect: Any) -> None:
    begun = threading.Event()

    class Slow(FlatColourGenerator):
        is_slow = True

        def generate(self, requests: Any, *, pictures: Any = None, cancel: Any = None, **options: Any) -> Any:
            begun.set()
            if self.is_slow:
                cancel.wait(20)
            yield from super().generate(requests, pictures=pictures, cancel=cancel)

    generator = Slow(size=(48, 32))
    async with connect(make_parts(made={"flat": generator})) as client:
        telling = asyncio.create_task(client.call_tool("tell_story", BOOK))
        assert await asyncio.to_thread(begun.wait, 10)
        telling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await telling
        [book] = [each.uri for each in (await client.list_resources()).resources]
        name = book.removeprefix("mgem://books/")
        while (facts := await facts_of(client, "story_status", book=name, wait_s=5))["state"] == "working":
            pass
        assert (facts["state"], facts["num_drawn"]) == ("stopped", 0)
        generator.is_slow = False
        assert (await facts_of(client, "story_continue", book=name))["state"] == "finished"


async def test_a_failed_page_is_named_and_tried_again(make_parts: Any, connect: Any) -> None:
    failing = FlatColourGenerator(size=(48, 32), fail_on="door")
    parts = make_parts(made={"flat": failing})
    async with connect(parts) as client:
        result = await client.call_tool("tell_story", BOOK)
        facts = result.structured_content
        assert (facts["state"], facts["num_drawn"]) == ("finished", 1)
        assert "Page 2 failed" in result.content[0].text and "came out blank" in facts["pages"][1]["problem"]
    async with connect(make_parts()) as client:
        assert (await facts_of(client, "story_continue", book=facts["book"]))["num_drawn"] == 2


async def test_a_failure_is_recorded_with_the_book(make_parts: Any, connect: Any) -> None:
    def reasoner() -> Any:
        raise RuntimeError("no such model")

    async with connect(make_parts(reasoner=reasoner)) as client:
        facts = await facts_of(client, "tell_story", premise="A mouse finds a key.")
        assert facts["state"] == "stopped" and facts["problem"].startswith("Unexpected RuntimeError")


async def test_an_unknown_book_is_an_error(make_parts: Any, connect: Any) -> None:
    async with connect(make_parts()) as client:
        assert "There is no book 'no-book'" in await refusal_of(client, "story_status", book="no-book")
        assert "is not the name of a story" in await refusal_of(client, "story_status", book="../etc")


async def test_a_book_stops_at_its_budget_and_goes_on_with_a_larger_one(make_parts: Any, connect: Any) -> None:
    budgets = Budgets.parse("5pictures/book")
    async with connect(make_parts(budgets=budgets)) as client:
        facts = await facts_of(client, "tell_story", **BOOK, budget="1picture")
        assert (facts["state"], facts["num_drawn"]) == ("stopped", 1)
        assert facts["problem"].startswith("The budget of this book is 1 picture.")
        facts = await facts_of(client, "story_continue", book=facts["book"], budget="9pictures")
        assert (facts["state"], facts["num_drawn"], facts.get("problem")) == ("finished", 2, None)
        assert "not an amount" in await refusal_of(client, "tell_story", **BOOK, budget="lots")


def all_yes(request: Any) -> str:
    """A judge's answer that says yes to each question."""
    num = request.dialogue[-1]["content"][-1]["text"].count("?\n")
    return json.dumps({"answers": ["yes"] * num})


async def test_pages_are_scored_as_the_server_was_told(make_parts: Any, connect: Any) -> None:
    asked: list[Any] = []

    def options(judge: Any) -> dict[str, Any]:
        asked.append(judge)
        return {"scores": True, "judge": ScriptedReasoner(script=[all_yes], is_endless=True)}

    async with connect(make_parts(story_options=options)) as client:
        facts = await facts_of(client, "tell_story", **BOOK)
        assert [page["score"] for page in facts["pages"]] == [1.0, 1.0] and asked == [None]
