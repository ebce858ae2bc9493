"""`mgem story replay`: redraw the pictures of a story and compare each with the old one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mgem_agent.cli.display.story import StoryDisplay
from mgem_agent.cli.factories import go_offline, open_named_generator, open_store
from mgem_agent.cli.printing import echo, echo_json
from mgem_agent.cli.recorded_generator import agree_to_generators, configured_name
from mgem_agent.errors import InputError
from mgem_agent.user_files import user_path

if TYPE_CHECKING:
    from mgem_agent.settings import Settings
    from mgem_agent.tools import ImageGenerator
    from mgem_agent.workflows.book import BookFormat, ReplayedPicture

__all__ = ["replay"]


def replay(
    path: Path,
    settings: Settings,
    *,
    generator: str | None,
    out: Path | None,
    forms: tuple[BookFormat, ...],
    yes: bool = False,
    pages: tuple[int, ...] = (),
    as_json: bool,
) -> None:
    """Redraw every picture of a story, print a verdict for each, and write a new book if `out` is given.

    Args:
        path: The story folder, or its story.json.
        settings: `store` and `generator_options` are used.
        generator: Generator to use instead of those that the story names.
        out: Folder of the new book.
        forms: Formats of the new book.
        yes: Whether the generators that the story names are used without asking.
        pages: Numbers of the pages to redraw, from 1; all if empty.
        as_json: Whether the verdicts are printed as JSON.

    Raises:
        InputError: If there is no story, or `out` already holds one.
        typer.Exit: With status 1 if a picture is not identical.
    """
    go_offline(settings)
    from mgem_agent.workflows.book import BookFolder, ReplayedPicture, recorded_generators, replay_story
    from mgem_agent.workflows.story import STORY_FILE, read_story

    story = read_story(path)
    store = open_store(settings)
    book = BookFolder(user_path(out), store) if out is not None else None
    if book is not None:
        if (book.folder / STORY_FILE).exists():
            raise InputError(f"{str(book.folder)!r} already holds a story. Choose another --out folder.")
        book.check(forms)

    if generator is None:
        agree_to_generators(recorded_generators(story), settings, source=str(path), yes=yes)

    def make(name: str) -> ImageGenerator:
        return open_named_generator(settings, generator or configured_name(name, settings))

    replayed: list[ReplayedPicture] = []
    folder = path if path.is_dir() else path.parent
    with StoryDisplay(quiet=as_json) as display:
        for event in replay_story(story, store, make, folder=folder, pages=pages):
            display.show(event)
            if isinstance(event, ReplayedPicture):
                replayed.append(event)
    replayed.sort(key=lambda picture: picture.index)
    files: tuple[Path, ...] = ()
    if book is not None:
        drawn = {picture.index: picture.after for picture in replayed if picture.after is not None}
        scenes = tuple(
            scene.model_copy(update={"artifact_id": drawn.get(scene.index, scene.artifact_id)})
            for scene in story.scenes
        )
        anew = story.model_copy(update={"scenes": scenes})
        files = book.write(anew, forms).files
        anew.write(book.folder)
    _print(replayed, files, as_json=as_json)
    if not all(picture.is_same for picture in replayed):
        raise typer.Exit(1)


def _print(replayed: list[ReplayedPicture], files: tuple[Path, ...], *, as_json: bool) -> None:
    if as_json:
        data = {
            "pictures": [dataclasses.asdict(picture) for picture in replayed],
            "files": [str(path) for path in files],
        }
        echo_json(data)
        return
    for picture in replayed:
        echo(f"scene {picture.index}  {picture.after or picture.before}  {picture.verdict}")
    num_same = sum(picture.is_same for picture in replayed)
    echo(f"{num_same} of {len(replayed)} pictures are identical, byte for byte.")
    for path in files:
        echo(path)
