"""Plan a story: its title, outline and cast come from the recipe or the reasoner.

Parts that the reasoner fails to write after a few attempts are completed from the recipe, with a notice.
"""

from __future__ import annotations

from mgem_agent.workflows.premise import Premise
from mgem_agent.workflows.story import Story, StoryCharacter, StoryScene
from mgem_agent.workflows.story_captions import find_characters
from mgem_agent.workflows.story_events import OutlineReady
from mgem_agent.workflows.story_grammars import outline_grammar
from mgem_agent.workflows.story_recipe import SceneRecipe
from mgem_agent.workflows.story_text import (
    first_sentence,
    read_cast,
    read_line,
    read_looks,
    read_outline,
    shorten,
    split_title,
)
from mgem_agent.workflows.story_writer import MAX_ASKS, StorySteps, StoryWriter

__all__ = ["about", "cast_line", "find_members", "outline_lines", "plan_story"]

MAX_WRITTEN_CAST = 4
MAX_TITLE_CHARS = 80


def plan_story(writer: StoryWriter) -> StorySteps[None]:
    """Write the title, outline and cast if they are missing."""
    if not writer.draft.story.title:
        yield from _write_title(writer)
    if not writer.draft.story.scenes:
        yield from _write_outline(writer)
    yield from _write_cast(writer)
    yield OutlineReady(writer.draft.story)


def about(story: Story) -> str:
    """Return what a story is about, in the recipe's words."""
    recipe = story.recipe
    return recipe.premise or " ".join(_known_line(scene) for scene in recipe.scene_recipes)


def outline_lines(story: Story) -> list[str]:
    """Return the outline, one line for each scene."""
    return [
        f"{scene.title}: {scene.summary}" if scene.title and scene.title != scene.summary else scene.summary
        for scene in story.scenes
    ]


def cast_line(story: Story) -> str:
    """Return the cast on one line."""
    return "; ".join(f"{each.name}, {each.looks}" if each.looks else each.name for each in story.cast)


def find_members(story: Story, scene: StoryScene) -> tuple[str, ...]:
    """Find the characters in a scene: those of the recipe, else those the scene names, else a story's hero."""
    given = story.recipe.scene_recipes[scene.index - 1].characters
    if given is not None:
        names = {name.casefold() for name in given}
        return tuple(each.name for each in story.cast if each.name.casefold() in names)
    by_default = 1 if story.recipe.kind == "story" else 0
    return find_characters(
        story.cast, scene.caption, f"{scene.title}. {scene.summary}", scene.text, by_default=by_default
    )


def _write_title(writer: StoryWriter) -> StorySteps[None]:
    story = writer.draft.story
    recipe = story.recipe
    title = recipe.title or ""
    if not title:
        title = yield from writer.ask(
            "title",
            "title",
            read_line,
            kind=recipe.kind,
            audience=recipe.audience,
            about=about(story),
            language=recipe.language,
        )
    if not title:
        title = first_sentence(about(story)).rstrip(".。")
        yield writer.draft.notice("The reasoner wrote no title; the premise was used.")
    writer.draft.change(title=shorten(title, MAX_TITLE_CHARS))


def _known_line(scene: SceneRecipe) -> str:
    """Return a scene of a recipe as a sentence; empty if the recipe says nothing about it."""
    return scene.title or first_sentence(scene.text or scene.caption or "")


def _write_outline(writer: StoryWriter) -> StorySteps[None]:
    story = writer.draft.story
    recipe = story.recipe
    known = [_known_line(scene) for scene in recipe.scene_recipes]
    written: list[str] = []
    if not all(known):
        written = yield from writer.ask(
            "outline",
            "outline",
            lambda said: read_outline(said, recipe.num_scenes),
            is_enough=lambda lines: len(lines) == recipe.num_scenes,
            max_asks=MAX_ASKS,
            grammar=_outline_grammar(writer.premise, recipe.num_scenes, any(known)),
            kind=recipe.kind,
            num_scenes=recipe.num_scenes,
            audience=recipe.audience,
            title=story.title,
            about=about(story),
            cast=", ".join(each.name for each in recipe.cast),
            fixed=[(place, line) for place, line in enumerate(known, 1) if line],
            language=recipe.language,
        )
    missing = [place for place, line in enumerate(known) if not line and place >= len(written)]
    if missing:
        places = ", ".join(str(place + 1) for place in missing)
        yield writer.draft.notice(
            f"The reasoner planned {len(written)} of {recipe.num_scenes} scenes; scene(s) {places} are completed from "
            f"the premise."
        )
    total = recipe.num_scenes
    lines = [*written, *(f"{first_sentence(about(story)).rstrip('.。')} ({n + 1}/{total})" for n in range(total))]
    scenes = []
    for place, scene in enumerate(recipe.scene_recipes):
        line = lines[place] if place < len(written) else lines[len(written) + place]
        title, summary = ("", known[place]) if known[place] else split_title(line)
        scenes.append(
            StoryScene(
                index=place + 1,
                title=scene.title or title,
                summary=summary,
                text=scene.text or "",
                caption=scene.caption or "",
            )
        )
    writer.draft.change(scenes=tuple(scenes))


def _outline_grammar(premise: Premise | None, num_scenes: int, is_partly_known: bool) -> str | None:
    return None if premise is None or is_partly_known else outline_grammar(num_scenes, premise)


def _write_cast(writer: StoryWriter) -> StorySteps[None]:
    story = writer.draft.story
    recipe = story.recipe
    if story.cast:
        return
    cast = [StoryCharacter(name=each.name, looks=each.looks) for each in recipe.cast]
    if not cast and recipe.kind == "story":
        cast = yield from writer.ask(
            "cast",
            "cast",
            lambda said: read_cast(said, MAX_WRITTEN_CAST),
            title=story.title,
            outline=outline_lines(story),
            max_characters=MAX_WRITTEN_CAST,
        )
        if not cast:
            yield writer.draft.notice("The reasoner wrote no cast; only the scenes' captions are drawn.")
    for place, each in enumerate(cast):
        if each.looks:
            continue
        looks = yield from writer.ask("cast", "looks", read_looks, about=about(story), name=each.name)
        if looks.casefold().startswith(f"{each.name.casefold()}:"):
            looks = looks.partition(":")[2].strip()
        if not looks:
            yield writer.draft.notice(f"The reasoner wrote no looks for {each.name!r}; captions have only the name.")
        cast[place] = each.model_copy(update={"looks": looks})
    if cast:
        writer.draft.change(cast=tuple(cast))
