"""Write the pages of a story: for each scene its text, then the caption of its picture; or one text again."""

from __future__ import annotations

from typing import Any

from mgem_agent.prompts import render_prompt
from mgem_agent.workflows.story import Story, StoryScene
from mgem_agent.workflows.story_events import SceneWritten
from mgem_agent.workflows.story_grammars import caption_grammar, scene_text_grammar
from mgem_agent.workflows.story_outline import cast_line, find_members, outline_lines
from mgem_agent.workflows.story_text import first_sentence, read_line, read_text
from mgem_agent.workflows.story_writer import StorySteps, StoryWriter

__all__ = ["caption_fields", "rewrite_text", "write_pages"]

MAX_BEFORE_CHARS = 300


def write_pages(writer: StoryWriter) -> StorySteps[None]:
    """Write missing texts and captions; each one is recorded before the next is requested."""
    for index in range(1, len(writer.draft.story.scenes) + 1):
        if writer.draft.story.scenes[index - 1].status != "planned":
            continue
        if not writer.draft.story.scenes[index - 1].text:
            yield from _write_text(writer, index)
        scene = yield from _write_caption(writer, index)
        yield SceneWritten(scene)


def rewrite_text(writer: StoryWriter, index: int, wish: str = "") -> StorySteps[None]:
    """Write the text of one page again; the old text is kept if the reasoner writes none.

    Args:
        writer: The writer.
        index: Number of the scene, from 1.
        wish: What should be different, in the person's words.
    """
    scene = writer.draft.story.scenes[index - 1]
    text = yield from writer.ask(
        "text",
        "rewrite",
        lambda said: read_text(said, scene.title or scene.summary),
        index=index,
        grammar=_text_grammar(writer, index),
        is_enough=lambda found: bool(found) and found != scene.text,
        question=render_prompt("scene_text", **_about_text(writer.draft.story, index)).rstrip(),
        text=scene.text,
        wish=wish,
    )
    if not text or text == scene.text:
        yield writer.draft.notice(f"The reasoner wrote no other text for scene {index}; its text was kept.")
        return
    writer.draft.change_scene(index, text=text)


def caption_fields(story: Story, scene: StoryScene) -> dict[str, Any]:
    """Return the fields of a scene that follow from its caption."""
    return {
        "caption": scene.caption,
        "alt_text": _alt_text(story, scene),
        "characters": find_members(story, scene),
    }


def _about_text(story: Story, index: int) -> dict[str, Any]:
    """Return the variables of the prompt for a page's text."""
    before = story.scenes[index - 2].text if index > 1 else ""
    return {
        "kind": story.recipe.kind,
        "audience": story.recipe.audience,
        "title": story.title,
        "outline": outline_lines(story),
        "cast": cast_line(story),
        "before": before[-MAX_BEFORE_CHARS:],
        "number": index,
        "language": story.language,
    }


def _write_text(writer: StoryWriter, index: int) -> StorySteps[None]:
    story = writer.draft.story
    scene = story.scenes[index - 1]
    text = yield from writer.ask(
        "text",
        "scene_text",
        lambda said: read_text(said, scene.title or scene.summary),
        index=index,
        grammar=_text_grammar(writer, index),
        **_about_text(story, index),
    )
    if not text:
        text = scene.summary
        yield writer.draft.notice(f"The reasoner wrote no text for scene {index}; its line of the outline was used.")
    writer.draft.change_scene(index, text=text)


def _write_caption(writer: StoryWriter, index: int) -> StorySteps[StoryScene]:
    scene = writer.draft.story.scenes[index - 1]
    caption = scene.caption
    if not caption:
        story, premise = writer.draft.story, writer.premise
        is_placed = _is_placed(story, index)
        grammar = caption_grammar(premise, scene.text, is_placed=is_placed) if premise is not None else None
        caption = yield from writer.ask("caption", "caption", read_line, index=index, grammar=grammar, text=scene.text)
    if not caption:
        caption = scene.summary
        yield writer.draft.notice(f"The reasoner wrote no caption for scene {index}; its line of the outline is drawn.")
    story = writer.draft.story
    whole = scene.model_copy(update={"caption": caption})
    return writer.draft.change_scene(index, status="written", **caption_fields(story, whole))


def _text_grammar(writer: StoryWriter, index: int) -> str | None:
    premise = writer.premise
    if premise is None:
        return None
    return scene_text_grammar(premise, is_placed=_is_placed(writer.draft.story, index))


def _is_placed(story: Story, index: int) -> bool:
    """Whether a page must name the place of the premise: the first and the last one."""
    return index in (1, len(story.scenes))


def _alt_text(story: Story, scene: StoryScene) -> str:
    """Return the alternative text of the picture, in the book's language; captions are in English."""
    is_english = story.language.lower().split("-")[0] == "en"
    return scene.caption if is_english else scene.summary or scene.title or first_sentence(scene.text)
