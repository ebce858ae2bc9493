"""Redraw the pictures of a story from its record, and compare each with the old one.

The record has the executed requests, and the id of a picture is the hash of its file. So new pictures can be compared
with a record from another machine, with or without the old pictures.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mgem_agent.agent.events import DrawingProgress
from mgem_agent.artifacts.comparison import SAME_PICTURE, compare_picture
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import InputError, MgemError
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_result import GenerationProgress, ImageResult
from mgem_agent.workflows.book.markdown import PICTURE_FOLDER
from mgem_agent.workflows.story import Story, StoryScene
from mgem_agent.workflows.story_events import scene_call_id

__all__ = ["ReplayedPicture", "recorded_generators", "replay_story"]


@dataclass(frozen=True, slots=True)
class ReplayedPicture:
    """A redrawn picture.

    Attributes:
        index: Number of the scene, from 1.
        before: Id of the old picture.
        after: Id of the new one; None if it could not be drawn.
        is_same: Whether the files are the same, byte for byte.
        verdict: How the new one compares with the old one, or why there is none.
    """

    index: int
    before: str
    after: str | None
    is_same: bool
    verdict: str


def recorded_generators(story: Story) -> tuple[str, ...]:
    """Return the names of the generators that `replay_story` creates, in the order of the scenes.

    Args:
        story: The story; it may come from someone else.
    """
    drawn = (scene for scene in story.scenes if scene.artifact_id is not None and scene.executed is not None)
    return tuple(dict.fromkeys(scene.generator for scene in drawn))


def replay_story(
    story: Story,
    store: ArtifactStore,
    make: Callable[[str], ImageGenerator],
    *,
    folder: Path | None = None,
    pages: Collection[int] = (),
    cancel: threading.Event | None = None,
) -> Iterator[DrawingProgress | ReplayedPicture]:
    """Redraw every picture of a story. New pictures are stored, and the story is not changed.

    Args:
        story: The story.
        store: The store of the pictures.
        make: Creates a generator by the name in the record, such as `mgem_agent.tools.make_generator`.
        folder: The story's folder; its `pictures/` is searched for pictures that the store does not have.
        pages: Numbers of the scenes to draw, from 1; all if empty.
        cancel: Set this from another thread to stop.

    Yields:
        Progress, and one `ReplayedPicture` for each scene that has a picture.

    Raises:
        InputError: If a page has no picture to redraw.
        MgemError: If a generator of the record cannot be created.
    """
    replay = _Replay(store, folder, cancel or threading.Event())
    waiting = [scene for scene in story.scenes if scene.artifact_id is not None and scene.executed is not None]
    drawn = [scene.index for scene in waiting]
    if absent := sorted(set(pages).difference(drawn)):
        raise InputError(
            f"Page(s) {', '.join(map(str, absent))} have no drawn picture. Pages with one: "
            f"{', '.join(map(str, drawn)) or 'none'}."
        )
    waiting = [scene for scene in waiting if not pages or scene.index in pages]
    generators: dict[str, ImageGenerator] = {}
    while waiting:
        # Pictures that refer to others come after them, as in the first drawing.
        ready = [scene for scene in waiting if replay.has_all(_needs(scene))]
        if not ready:
            for scene in waiting:
                yield _not_drawn(scene, "its source picture is neither in the store nor in the folder")
            return
        name = ready[0].generator
        batch = [scene for scene in ready if scene.generator == name]
        if name not in generators:
            generators[name] = make(name)
        yield from replay.draw(batch, generators[name])
        waiting = [scene for scene in waiting if scene not in batch]


class _Replay:
    """Draws batches, and finds pictures in the store or in the story's folder."""

    def __init__(self, store: ArtifactStore, folder: Path | None, cancel: threading.Event) -> None:
        self._store = store
        self._folder = folder
        self._cancel = cancel

    def has_all(self, names: Sequence[str]) -> bool:
        return all(self._path(name) is not None for name in names)

    def draw(
        self, batch: Sequence[StoryScene], generator: ImageGenerator
    ) -> Iterator[DrawingProgress | ReplayedPicture]:
        """Draw scenes with one generator, and compare each picture with the old one."""
        requests = [scene.executed for scene in batch if scene.executed is not None]
        pictures: dict[str, Image.Image] = {}
        for name in {name for scene in batch for name in _needs(scene)}:
            path = self._path(name)
            if path is not None:
                pictures[name] = load_image(path)
        for event in draw(generator, requests, pictures=pictures, cancel=self._cancel):
            scene = batch[event.index]
            if isinstance(event, GenerationProgress):
                yield DrawingProgress(scene_call_id(scene.index), event.step, event.num_steps)
            else:
                yield self._judge(scene, event)

    def _judge(self, scene: StoryScene, result: ImageResult) -> ReplayedPicture:
        if result.image is None:
            return _not_drawn(scene, str(result.error))
        before = scene.artifact_id or ""
        try:
            after = self._store.put(result)
            old = self._path(before)
            if old is not None:
                verdict = compare_picture(self._store.path(after.id).read_bytes(), old)
            else:
                is_same = after.sha256.startswith(before.removeprefix("img-"))
                verdict = SAME_PICTURE if is_same else "another picture; the old one is not available for comparison"
        except MgemError as error:
            return _not_drawn(scene, str(error))
        return ReplayedPicture(scene.index, before, after.id, verdict == SAME_PICTURE, verdict)

    def _path(self, name: str) -> Path | None:
        """Return the file of a picture, from the store or the folder; None if there is none."""
        try:
            return self._store.path(name)
        except InputError:
            place = None if self._folder is None else self._folder / PICTURE_FOLDER / f"{Path(name).name}.png"
            return place if place is not None and place.is_file() else None


def _needs(scene: StoryScene) -> tuple[str, ...]:
    return scene.executed.picture_ids if scene.executed is not None else ()


def _not_drawn(scene: StoryScene, reason: str) -> ReplayedPicture:
    return ReplayedPicture(scene.index, scene.artifact_id or "", None, is_same=False, verdict=f"not drawn: {reason}")
