"""New versions of a stored picture that are drawn in the background."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from PIL import Image

from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.comparison import compare_picture
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import MgemError
from mgem_agent.server.page.live import Live
from mgem_agent.server.page.picture_changes import PictureChange
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult

__all__ = ["DrawBatch", "LiveDrawing"]

DRAWING = "Drawing"
DrawBatch = Callable[
    [Sequence[ImageRequest], Mapping[str, Image.Image], Callable[[GenerationProgress], None]],
    Awaitable[Sequence[ImageResult]],
]
"""Draws requests with the pictures that they name, reports each step, and returns one result for each."""


class LiveDrawing(Live):
    """Versions of a picture that are being drawn.

    Args:
        source: The picture that they are versions of.
        change: What is drawn.
        store: The user's pictures.
    """

    def __init__(self, source: Artifact, change: PictureChange, store: ArtifactStore) -> None:
        super().__init__()
        self.status = DRAWING
        self.source = source
        self.change = change
        self._store = store
        self._kept: dict[int, tuple[ImageResult, Artifact]] = {}
        self._unkept: dict[int, str] = {}
        for place, request in enumerate(change.requests):
            self.show(f"draw-{place}", "drawing", prompt=request.prompt, state="waiting", step=0, num_steps=0)
        for place, notice in enumerate(change.notices):
            self.show(f"notice-{place}", "notice", message=notice)

    @property
    def num_drawing(self) -> int:
        """Number of pictures that are not finished."""
        return sum(part.data.get("state") in ("waiting", "drawing") for part in self.parts)

    @property
    def is_done(self) -> bool:
        """Whether every picture is stored."""
        return self.is_over or len(self._kept) == len(self.change.requests)

    def start(self, draw: DrawBatch) -> None:
        """Start drawing.

        Args:
            draw: Draws the requests; it calls `keep` with each result.
        """

        async def work() -> None:
            names = {name for request in self.change.requests for name in request.picture_ids}
            pictures = {name: self._store.open(name) for name in names}
            try:
                for result in await draw(self.change.requests, pictures, self._progress):
                    self._take(result)
            finally:
                for index in self._kept:
                    self._show_kept(index)

        self.begin(work)

    def stop(self) -> None:
        """Stop drawing; finished pictures are kept."""
        self.abort()

    def keep(self, result: ImageResult) -> None:
        """Store a result at once, so that it is kept if the others are stopped; called in any thread."""
        if result.image is None:
            return
        try:
            self._kept[result.index] = (result, self._store.put(result, version_of=self.source.id))
        except MgemError as error:
            self._unkept[result.index] = str(error)

    def _progress(self, event: GenerationProgress) -> None:
        self.show(f"draw-{event.index}", "drawing", state="drawing", step=event.step, num_steps=event.num_steps)
        self.say(status=DRAWING)

    def _take(self, result: ImageResult) -> None:
        """Show a result that has no picture; those with one are shown by `_show_kept`."""
        if result.index in self._kept:
            return
        message = self._unkept.get(result.index) or str(result.error)
        self.show(f"draw-{result.index}", "drawing", state="failed", message=message)
        self.say(announcement=f"Not drawn: {message}")

    def _show_kept(self, index: int) -> None:
        result, artifact = self._kept[index]
        notices = [notice.message for notice in result.notices]
        if self.change.is_redraw:
            notices.append(self._compared(artifact))
        self.show(
            f"draw-{index}",
            "drawing",
            state="drawn",
            picture=artifact.id,
            prompt=artifact.title,
            notices=tuple(notices),
        )
        self.say(announcement=f"Picture drawn: {artifact.title}")

    def _compared(self, artifact: Artifact) -> str:
        data = self._store.path(artifact.id).read_bytes()
        return f"Compared with the earlier one: {compare_picture(data, self._store.path(self.source.id))}."
