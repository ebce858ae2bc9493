"""What a client is told about a book."""

from __future__ import annotations

from mcp.types import ContentBlock, ResourceLink
from pydantic import BaseModel, ConfigDict, Field

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.mcp.answers import ToolAnswer
from mgem_agent.mcp.book_runs import BookRun
from mgem_agent.mcp.books import Book, BookState
from mgem_agent.mcp.pictures import picture_uri, shortened, shown_picture
from mgem_agent.workflows.story import Story, StoryScene

__all__ = ["BOOKS", "BookAnswer", "PageFacts", "book_answer", "book_uri"]

BOOKS = "mgem://books/"
MAX_SUMMARY_CHARS = 160
MAX_PAGE_CHARS = 4_000

NEXT: dict[BookState, str] = {
    "working": "Call story_status with wait_s to wait for it.",
    "outline": "Show the outline to the person. Then call story_continue with their decision (approve or refuse), or "
    "with a new title or outline.",
    "page": "Show the page to the person. Then call story_continue with decision approve, or with a new caption, seed "
    "or text.",
    "stopped": "Call story_continue to go on.",
    "refused": "Start another one with tell_story.",
    "finished": "Read the book as a resource. story_continue with page and caption, seed or text changes a page.",
}


class PageFacts(BaseModel):
    """A page of a book."""

    model_config = ConfigDict(frozen=True)

    page: int = Field(description="Its number, from 1.")
    title: str = ""
    summary: str = Field(default="", description="The beginning of its text.")
    status: str = Field(description="planned, written, drawn or failed.")
    picture: str | None = Field(default=None, description="Id of its picture.")
    uri: str | None = Field(default=None, description="The resource with its picture.")
    problem: str | None = Field(default=None, description="Why it has no picture.")
    score: float | None = Field(default=None, description="How good its picture is, from 0 to 1, if it was scored.")


class BookAnswer(BaseModel):
    """The state of a book."""

    model_config = ConfigDict(frozen=True)

    book: str = Field(description="Id of the book: a handle that stays valid when the server is started again.")
    uri: str = Field(description="The resource with the book as Markdown; /book.html and /story.json are below it.")
    state: BookState = Field(description="working, outline, page, stopped, refused or finished.")
    next: str = Field(description="What to do next.")
    title: str = ""
    generator: str = ""
    num_drawn: int = 0
    num_pages: int = 0
    progress: str | None = Field(default=None, description="What is being done.")
    problem: str | None = Field(default=None, description="Why it has stopped.")
    pages: list[PageFacts] = []
    outline: list[str] | None = Field(default=None, description="The outline that waits for approval.")
    cast: list[str] | None = Field(default=None, description="The characters of that outline, with their looks.")
    waiting_page: int | None = Field(default=None, description="The page that waits for approval.")
    page_text: str | None = Field(default=None, description="Text of the page that waits.")
    page_caption: str | None = Field(default=None, description="Caption of the page that waits.")
    notices: list[str] = []


def book_uri(book_id: str) -> str:
    """Return the address of the resource of a book."""
    return BOOKS + book_id


def book_answer(book: Book, store: ArtifactStore, run: BookRun | None) -> ToolAnswer:
    """Describe a book.

    Args:
        book: The book.
        store: The store of the pictures.
        run: The run of the book in this process.
    """
    story = book.story
    state: BookState = "working" if run is not None else book.state
    waiting = book.waiting_page if state == "page" else None
    scene = story.scenes[waiting - 1] if story is not None and waiting is not None else None
    scenes = story.scenes if story is not None else ()
    outlined = story if state == "outline" else None
    facts = BookAnswer(
        book=book.id,
        uri=book_uri(book.id),
        state=state,
        next=NEXT[state],
        title=book.title,
        generator=book.record.generator,
        num_drawn=sum(each.status == "drawn" for each in scenes),
        num_pages=len(scenes) or book.record.recipe.num_scenes,
        progress=run.message if run is not None else None,
        problem=book.record.problem or None,
        pages=[_page(each) for each in scenes],
        outline=None if outlined is None else _outline(outlined),
        cast=None
        if outlined is None
        else [shortened(f"{each.name}: {each.looks}", MAX_SUMMARY_CHARS) for each in outlined.cast],
        waiting_page=waiting,
        page_text=shortened(scene.text, MAX_PAGE_CHARS) if scene else None,
        page_caption=shortened(scene.caption, MAX_PAGE_CHARS) if scene else None,
        notices=[shortened(notice, MAX_SUMMARY_CHARS) for notice in story.notices[:20]] if story is not None else [],
    )
    return ToolAnswer(_text(facts), facts, _shown(book, story, scene, store))


def _outline(story: Story) -> list[str]:
    from mgem_agent.workflows.story_outline import outline_lines  # imports langchain

    return [shortened(line, MAX_SUMMARY_CHARS) for line in outline_lines(story)]


def _page(scene: StoryScene) -> PageFacts:
    return PageFacts(
        page=scene.index,
        title=shortened(scene.title, 80),
        summary=shortened(scene.text or scene.summary, MAX_SUMMARY_CHARS),
        status=scene.status,
        picture=scene.artifact_id,
        uri=picture_uri(scene.artifact_id) if scene.artifact_id else None,
        problem=shortened(scene.message, MAX_SUMMARY_CHARS) or None,
        score=None if scene.score is None or scene.score.score is None else round(scene.score.score, 3),
    )


def _text(facts: BookAnswer) -> str:
    about = {
        "working": "is being told",
        "outline": "has an outline that waits for a person",
        "page": f"waits for a person to approve page {facts.waiting_page}",
        "stopped": "has stopped",
        "refused": "was refused",
        "finished": "is finished",
    }[facts.state]
    lines = [f"The book {facts.book} ({facts.title}) {about}. Drawn: {facts.num_drawn} of {facts.num_pages} pages."]
    lines += [facts.progress + "."] if facts.progress else []
    lines += [f"Problem: {facts.problem}"] if facts.problem else []
    lines += [f"{number}. {line}" for number, line in enumerate(facts.outline or (), 1)]
    lines += [f"Cast: {'; '.join(facts.cast)}"] if facts.cast else []
    lines += [f"Text: {facts.page_text}", f"Caption: {facts.page_caption}"] if facts.page_text is not None else []
    lines += [f"Page {page.page} failed: {page.problem}" for page in facts.pages if page.status == "failed"][:10]
    return "\n".join([*lines, facts.next])


def _shown(book: Book, story: Story | None, waiting: StoryScene | None, store: ArtifactStore) -> list[ContentBlock]:
    """The page that waits, or the last drawn one; and the link to the book, if it has a page."""
    drawn = [scene for scene in (story.scenes if story is not None else ()) if scene.artifact_id is not None]
    scene = waiting or (drawn[-1] if drawn else None)
    shown: list[ContentBlock] = []
    if scene is not None and scene.artifact_id is not None:
        try:
            shown += shown_picture(store.get(scene.artifact_id), store)
        except InputError:
            pass  # a picture that is no longer stored: the facts name it
    if drawn:
        shown.append(
            ResourceLink(
                uri=book_uri(book.id), name=f"{book.id}.md", title=shortened(book.title, 80), mime_type="text/markdown"
            )
        )
    return shown
