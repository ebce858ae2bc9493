"""Draw the pictures of an answer as one batch. Each picture is stored and recorded as soon as it is drawn.

A picture is recorded under its place in the turn, so that a resumed turn draws only what is missing. If the process was
killed between storing and recording a picture, the picture is found in the store by its call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from PIL import Image
from pydantic import ValidationError

from mgem_agent.agent.events import AgentEvent, DrawingFailed, DrawingProgress, PictureDrawn
from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.drawn_call import call_key
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import BudgetExceededError, InputError, MgemError, ToolError
from mgem_agent.tools.budget import Cost, Meter
from mgem_agent.tools.capabilities import Notice
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult
from mgem_agent.tools.servers.wire_pictures import png_base64
from mgem_agent.tools.tool_arguments import wrong_fields

if TYPE_CHECKING:
    from mgem_agent.sessions.sessions import Sessions  # slow to import, and `mgem draw` uses only `read_request`

__all__ = ["TurnDrawing", "read_request"]


def read_request(args: Mapping[str, Any], defaults: Mapping[str, Any]) -> ImageRequest:
    """Return the image request of a user or a program. A model's arguments are read by `read_draw_arguments`.

    Args:
        args: Fields of an image request; None for fields that are not set.
        defaults: Values of fields that are not set in `args`.

    Raises:
        InputError: If the fields do not give a valid request.
    """
    given = {name: value for name, value in args.items() if value is not None}
    try:
        return ImageRequest(**{**defaults, **given})
    except ValidationError as error:
        allowed = ", ".join(ImageRequest.model_fields)
        raise InputError(
            f"The image request is not valid. {wrong_fields(error)}. Allowed fields: {allowed}."
        ) from error


@dataclass(frozen=True, slots=True)
class TurnDrawing:
    """Draws the pictures of a turn.

    Attributes:
        generator: The image generator.
        store: The picture store.
        sessions: The session storage, which records what is drawn.
        turn: Id of the turn.
        emit: Receives events.
        cancel: Set to stop drawing.
        is_resumed: Whether the turn was interrupted, so that pictures may be stored but not recorded.
        num_previews: Number of previews of each unfinished picture.
        meter: Refuses pictures that would pass a budget, and counts what is spent.
    """

    generator: ImageGenerator
    store: ArtifactStore
    sessions: Sessions
    turn: str
    emit: Callable[[AgentEvent], None]
    cancel: threading.Event
    is_resumed: bool = False
    num_previews: int = 0
    meter: Meter = field(default_factory=Meter)

    def run(self, calls: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Draw a batch.

        Args:
            calls: Calls as JSON, each with `call_id`, `key` (its place in the turn) and `request`.

        Returns:
            By key: `artifact`, `path` and `prompt` of the picture; or `error` if it was not drawn, with `limit` if a
            budget is the reason.
        """
        noted = self.sessions.drawn(self.turn)
        if self.is_resumed:
            noted |= self._found([call for call in calls if call["key"] not in noted])
        found: dict[str, dict[str, Any]] = {}
        waiting: list[Mapping[str, Any]] = []
        pictures: dict[str, Image.Image] = {}
        for call in calls:
            known = self._stored(noted.get(call["key"]))
            if known is not None:
                found[call["key"]] = known
                self.meter.add(Cost.priced(known.get("cost_usd", 0.0), pictures=1))
                self.emit(_drawn_event(call["call_id"], known, stored_before=True))
                continue
            try:
                pictures |= self._pictures(ImageRequest.model_validate(call["request"]))
                waiting.append(call)
            except InputError as error:
                found[call["key"]] = self._failed(call, error)
        requests = [ImageRequest.model_validate(call["request"]) for call in waiting]
        events = draw(
            self.generator,
            requests,
            pictures=pictures,
            cancel=self.cancel,
            num_previews=self.num_previews,
            meter=self.meter,
        )
        for event in events if requests else ():
            call = waiting[event.index]
            if isinstance(event, GenerationProgress):
                self.emit(DrawingProgress(call["call_id"], event.step, event.num_steps, _data_url(event.preview)))
            else:
                found[call["key"]] = self._kept(call, event)
        return found

    def _found(self, calls: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Record pictures that a killed process stored but did not record."""
        requests = {call["key"]: ImageRequest.model_validate(call["request"]) for call in calls}
        keys = {place: call_key(self.turn, place, request) for place, request in requests.items()}
        wanted = {keys[place]: request for place, request in requests.items()}
        stored = self.store.find_drawn(wanted, generator=self.generator.name) if wanted else {}
        found = {}
        for place, key in keys.items():
            if key in stored:
                artifact = stored[key]
                prompt = artifact.recipe.request.prompt if artifact.recipe else requests[place].prompt
                found[place] = _known(artifact, self.store, prompt, artifact.notices)
                self.sessions.note_drawn(self.turn, place, found[place])
        return found

    def _pictures(self, request: ImageRequest) -> dict[str, Image.Image]:
        return {name: self.store.open(name) for name in request.picture_ids}

    def _stored(self, note: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return the record of a picture, if the picture is still stored."""
        if note is None:
            return None
        try:
            return {**note, "path": str(self.store.path(note["artifact"]))}
        except InputError:
            return None

    def _kept(self, call: Mapping[str, Any], result: ImageResult) -> dict[str, Any]:
        """Store a picture and emit its event, or emit the failure."""
        if result.image is None:
            return self._failed(call, result.error or ToolError("There is no picture."))
        try:
            artifact = self.store.put(replace(result, call=call_key(self.turn, call["key"], result.request)))
        except MgemError as error:
            return self._failed(call, error)
        known = _known(artifact, self.store, result.executed.prompt, result.notices)
        self.sessions.note_drawn(self.turn, call["key"], known)
        self.emit(_drawn_event(call["call_id"], known, stored_before=False))
        return known

    def _failed(self, call: Mapping[str, Any], error: MgemError) -> dict[str, Any]:
        retryable = isinstance(error, ToolError) and error.retryable
        self.emit(DrawingFailed(call["call_id"], str(error), type(error).__name__, retryable))
        failed = {"error": str(error)}
        return failed | {"limit": "budget"} if isinstance(error, BudgetExceededError) else failed


def _known(artifact: Artifact, store: ArtifactStore, prompt: str, notices: Sequence[Notice]) -> dict[str, Any]:
    return {
        "artifact": artifact.id,
        "path": str(store.path(artifact.id)),
        "prompt": prompt,
        "width": artifact.width,
        "height": artifact.height,
        "notices": [notice.message for notice in notices],
        "cost_usd": artifact.cost_usd,
    }


def _drawn_event(call_id: str, known: Mapping[str, Any], *, stored_before: bool) -> PictureDrawn:
    return PictureDrawn(
        call_id, known["artifact"], known["path"], known["prompt"], tuple(known["notices"]), stored_before
    )


def _data_url(preview: Image.Image | None) -> str | None:
    return None if preview is None else f"data:image/png;base64,{png_base64(preview)}"
