"""Write the pages of a story: for each scene its text, then the caption of its picture."""

from __future__ import annotations

from mgem_agent.workflows.story import Story, StoryScene
from mgem_agent.workflows.story_events import SceneWritten
from mgem_agent.workflows.story_outline import cast_line, find_members, outline_lines
from mgem_agent.workflows.story_text import first_sentence, read_line, read_text
from mgem_agent.workflows.story_writer import StorySteps, StoryWriter

__all__ = ["write_pages"]

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


def _write_text(writer: StoryWriter, index: int) -> StorySteps[None]:
    story = writer.draft.story
    scene = story.scenes[index - 1]
    before = story.scenes[index - 2].text if index > 1 else ""
    text = yield from writer.ask(
        "text",
        "scene_text",
        lambda said: read_text(said, scene.title or scene.summary),
        index=index,
        kind=story.recipe.kind,
        audience=story.recipe.audience,
        title=story.title,
        outline=outline_lines(story),
        cast=cast_line(story),
        before=before[-MAX_BEFORE_CHARS:],
        number=index,
        language=story.language,
    )
    if not text:
        text = scene.summary
        yield writer.draft.notice(f"The reasoner wrote no text for scene {index}; its line of the outline was used.")
    writer.draft.change_scene(index, text=text)


def _write_caption(writer: StoryWriter, index: int) -> StorySteps[StoryScene]:
    scene = writer.draft.story.scenes[index - 1]
    caption = scene.caption
    if not caption:
        caption = yield from writer.ask("caption", "caption", read_line, index=index, text=scene.text)
    if not caption:
        caption = scene.summary
        yield writer.draft.notice(f"The reasoner wrote no caption for scene {index}; its line of the outline is drawn.")
    story = writer.draft.story
    whole = scene.model_copy(update={"caption": caption})
    return writer.draft.change_scene(
        index,
        caption=caption,
        alt_text=_alt_text(story, whole),
        characters=find_members(story, whole),
        status="written",
    )


def _alt_text(story: Story, scene: StoryScene) -> str:
    """Return the alternative text of the picture, in the book's language; captions are in English."""
    is_english = story.language.lower().split("-")[0] == "en"
    return scene.caption if is_english else scene.summary or scene.title or first_sentence(scene.text)
