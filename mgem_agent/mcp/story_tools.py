"""The tools `tell_story`, `story_status` and `story_continue`: a book with a handle that survives a restart.

A call waits for the book for a limited time, because clients end calls that take long. The book goes on in the
background until it is finished or waits for a person; cancelling a call that waits stops it, and it can be continued.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mgem_agent.errors import InputError
from mgem_agent.mcp.answers import ToolAnswer
from mgem_agent.mcp.book_answer import book_answer
from mgem_agent.mcp.book_runs import BookRun, BookSteps, find_run, running_long, start_run
from mgem_agent.mcp.books import Book, BookRecord
from mgem_agent.mcp.call import Call, Question
from mgem_agent.mcp.drawing_tools import agreed_to_spend, chosen_generator
from mgem_agent.mcp.pictures import shortened
from mgem_agent.mcp.story_arguments import ContinueCall, StatusCall, TellCall
from mgem_agent.tools.budget import Budget
from mgem_agent.tools.tool_arguments import explain_arguments
from mgem_agent.workflows.outline_decision import OutlineDecision, apply_outline_decision
from mgem_agent.workflows.recipe_options import has_everything

if TYPE_CHECKING:
    from mgem_agent.workflows.story_revision import PageRevision

__all__ = ["story_continue", "story_status", "tell_story"]

POLL_S = 0.1
MAX_SHOWN_CHARS = 3_000
NO_DECISION = "The person gave no decision. The book waits."
NO_PERSON = (
    "A person decides about books here (--confirm). Use a client with elicitation, or start the server without "
    "--confirm."
)


async def tell_story(call: Call, arguments: TellCall) -> ToolAnswer:
    """Start a book."""
    parts = call.parts
    recipe = arguments.recipe(parts.defaults)
    if parts.reasoner is None and not has_everything(recipe):
        raise InputError("This server has no model that writes. Give title, cast, and text and caption of every scene.")
    generator = await chosen_generator(call, arguments.generator)
    await agreed_to_spend(call, generator, f"Draw a book of {recipe.num_scenes} pictures")
    approve = arguments.approve or "none"
    record = BookRecord(
        recipe=recipe,
        generator=arguments.generator or parts.generators[0],
        approve="outline" if parts.confirm and approve == "none" else approve,
        budget=arguments.budget and str(Budget.parse(arguments.budget)),
    )
    book_id = await asyncio.to_thread(parts.books.create, record)
    start_run(parts, book_id, record)
    return await _waited(call, book_id, arguments.wait_s)


async def story_status(call: Call, arguments: StatusCall) -> ToolAnswer:
    """Return the state of a book, and wait for it."""
    return await _waited(call, arguments.book, arguments.wait_s)


async def story_continue(call: Call, arguments: ContinueCall) -> ToolAnswer:
    """Continue a book: with a decision, with changes, or after it was stopped."""
    parts = call.parts
    run = await running_long(parts.books.folder(arguments.book))
    book = await asyncio.to_thread(parts.books.get, arguments.book)
    if book.state == "working" or run is not None:
        raise InputError(f"The book {book.id!r} is being told. Wait for it: story_status with wait_s.")
    if book.state == "refused":
        raise InputError(f"The outline of the book {book.id!r} was refused. Start another one: tell_story.")
    book = await _with_budget(call, book, arguments.budget)
    if book.state == "outline" and book.story is not None:
        steps = BookSteps(decision=await _outline_decision(call, book, arguments))
        if steps.decision is not None:
            apply_outline_decision(book.story, steps.decision)  # a wrong one is the caller's error, now
        start_run(parts, book.id, book.record, steps)
    elif arguments.page is not None or arguments.page_edits or book.state == "page":
        record, steps = await _page_decision(call, book, arguments)
        await asyncio.to_thread(parts.books.write, book.id, record)
        if steps.revision is not None or steps.go_on:
            start_run(parts, book.id, record, steps)
    elif book.state == "stopped" or (book.story is not None and book.story.failed_scenes):
        start_run(parts, book.id, book.record)
    return await _waited(call, book.id, arguments.wait_s)


async def _with_budget(call: Call, book: Book, budget: str | None) -> Book:
    """Record another budget of a book."""
    if budget is None:
        return book
    record = book.record.model_copy(update={"budget": str(Budget.parse(budget))})
    await asyncio.to_thread(call.parts.books.write, book.id, record)
    return replace(book, record=record)


async def _waited(call: Call, book_id: str, wait_s: float) -> ToolAnswer:
    """Wait for a book while it is being told here, report its progress, and return its state."""
    parts = call.parts
    run = find_run(parts.books.folder(book_id))
    if run is not None:
        await _follow(call, run, wait_s)
    book = await asyncio.to_thread(parts.books.get, book_id)
    return await asyncio.to_thread(book_answer, book, parts.store, find_run(book.folder))


async def _follow(call: Call, run: BookRun, wait_s: float) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + wait_s
    progress = call.progress()
    sending = asyncio.ensure_future(progress.send_changes())
    try:
        while run.task is not None and not run.task.done() and (left := end - loop.time()) > 0:
            await asyncio.wait([run.task], timeout=min(POLL_S, left))
            progress.set(run.done, run.total, run.message)
        progress.close()
        await sending
    except asyncio.CancelledError:
        run.stop()
        raise
    finally:
        sending.cancel()


async def _outline_decision(call: Call, book: Book, arguments: ContinueCall) -> OutlineDecision:
    """The decision about an outline, from the arguments or from a person."""
    from mgem_agent.workflows.story_outline import outline_lines  # imports langchain

    fields: dict[str, Any] = {"title": arguments.title, "outline": arguments.outline}
    verdict: str | None = arguments.decision
    if verdict is None or call.parts.confirm:
        if not call.can_ask and not call.parts.confirm:
            raise InputError(
                f"The outline of {book.id!r} waits for a person. Show it to them, and give their decision: approve or "
                "refuse."
            )
        lines = arguments.outline or (outline_lines(book.story) if book.story is not None else [])
        shown = "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
        answer = await call.ask(
            Question(
                shortened(f"Draw this book?\n\n{shown}", MAX_SHOWN_CHARS),
                NO_PERSON,
                {
                    "decision": _choice(["approve", "refuse"]),
                    "title": {"type": "string", "title": "Title", "default": arguments.title or book.title},
                },
            )
        )
        if answer is None:
            raise InputError(NO_DECISION)
        verdict, fields["title"] = answer.get("decision", "approve"), answer.get("title") or arguments.title
    try:
        return OutlineDecision(verdict=verdict, **fields)  # type: ignore[arg-type]  # pydantic checks it
    except ValidationError as error:
        raise InputError(explain_arguments(error)) from error


async def _page_decision(call: Call, book: Book, arguments: ContinueCall) -> tuple[BookRecord, BookSteps]:
    """What to do with a page, from the arguments or from a person: the new record, and the steps of the run."""
    from mgem_agent.workflows.story_revision import check_revision  # imports langchain

    page = arguments.page if arguments.page is not None else book.waiting_page
    edits, decision = arguments.page_edits, arguments.decision
    if page is None or book.story is None or not 1 <= page <= len(book.story.scenes):
        num_pages = 0 if book.story is None else len(book.story.scenes)
        raise InputError(f"page is {page}. The book has {num_pages} pages. Give the number of the page to change.")
    is_undecided = book.waiting_page == page and decision is None and not edits
    if is_undecided or call.parts.confirm:
        decision, edits = await _asked_about_page(call, book, page, edits)
    if decision == "refuse" and not edits:
        raise InputError(f"Page {page} was refused. Say what to change: caption, seed, text, wish or picture.")
    revision = _revision(page, edits) if edits else None
    if revision is not None:
        await asyncio.to_thread(check_revision, book.story, revision, call.parts.store)
    if revision is not None and revision.draw:
        generator = await asyncio.to_thread(call.parts.recorded_generator, book.record.generator)
        await agreed_to_spend(call, generator, f"Draw page {page} again")
    approved = {*book.record.approved} - {page} | ({page} if decision == "approve" else set())
    record = book.record.model_copy(update={"approved": tuple(sorted(approved))})
    return record, BookSteps(revision=revision, go_on=decision == "approve" and book.story.state != "finished")


def _revision(page: int, edits: dict[str, Any]) -> PageRevision:
    from mgem_agent.workflows.story_revision import PageRevision

    is_drawn = "caption" in edits or "seed" in edits
    try:
        return PageRevision(index=page, draw=is_drawn, write="wish" in edits, **edits)
    except ValidationError as error:
        raise InputError(explain_arguments(error)) from error


async def _asked_about_page(call: Call, book: Book, page: int, edits: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A person's decision about a page, and their changes."""
    if not call.can_ask and not call.parts.confirm:
        raise InputError(
            f"Page {page} of {book.id!r} waits for a person. Show it to them, and give their decision (approve), or "
            "what to change: caption, seed, text, wish or picture."
        )
    scene = book.story.scenes[page - 1] if book.story is not None else None
    before = {"text": scene.text if scene else "", "caption": scene.caption if scene else ""}
    proposed = {**before, **{name: value for name, value in edits.items() if name in before}}
    answer = await call.ask(
        Question(
            shortened(f"Page {page} of {book.title}\n\n{proposed['text']}", MAX_SHOWN_CHARS),
            NO_PERSON,
            {
                "decision": _choice(["approve", "change"]),
                "text": {"type": "string", "title": "Text", "default": proposed["text"]},
                "caption": {
                    "type": "string",
                    "title": "Caption",
                    "description": "Another caption draws the picture again.",
                    "default": proposed["caption"],
                },
            },
        )
    )
    if answer is None:
        raise InputError(NO_DECISION)
    changes = {name: str(answer.get(name) or proposed[name]) for name in before}
    changed = {name: value for name, value in changes.items() if value != before[name]}
    kept = {name: value for name, value in edits.items() if name not in before}
    is_approved = answer.get("decision", "approve") == "approve"
    return ("approve" if is_approved else "refuse"), {**changed, **kept}


def _choice(names: list[str]) -> dict[str, Any]:
    return {"type": "string", "title": "Decision", "enum": names, "default": names[0]}
