"""Draw the prompts of a batch. The step holds the generator, and stores each picture as soon as it is drawn.

An item's data has the `request` (fields of an image request), `is_edit` (whether the generator chooses how to change
the start picture) and `file` (where the picture is written as well). A picture is stored with the key of its item, so
that an item which is run again is found in the store and not drawn twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import ValidationError

from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.atomic_file import write_atomically
from mgem_agent.artifacts.drawn_call import call_key
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError, ToolError
from mgem_agent.scale.batch_row import BatchItem, BatchRow, failed_row, worker_name
from mgem_agent.tools.budget import Budgets, Meter
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.editing_plan import EditRequest, plan_edit
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult
from mgem_agent.tools.prices import Prices

__all__ = ["DrawStep"]

OWNER = "batch"


class DrawStep:
    """Draws items.

    Args:
        generator: The generator.
        store: The picture store.
        budgets: The budget of a turn limits each item.
        prices: Prices of generators.
    """

    def __init__(
        self,
        generator: ImageGenerator,
        store: ArtifactStore,
        budgets: Budgets | None = None,
        prices: Prices | None = None,
    ) -> None:
        self._generator = generator
        self._store = store
        self._budgets = Budgets(turn=(budgets or Budgets()).turn)
        self._prices = prices or Prices()

    def run(self, items: Sequence[BatchItem]) -> Iterator[BatchRow]:
        """Draw items as one batch; see `BatchStep`."""
        requests: dict[str, ImageRequest] = {}
        pictures: dict[str, Image.Image] = {}
        for item in items:
            try:
                request = self._request(item)
                pictures |= {name: self._store.open(name) for name in request.picture_ids}
                requests[item.key] = request
            except Exception as error:  # an item must not end the batch, whatever the generator raises
                yield failed_row(item, error)
        waiting = [item for item in items if item.key in requests]
        found = self._found(requests)
        for item in waiting:
            if item.key in found:
                yield self._kept(item, found[item.key], started=time.monotonic())
        waiting = [item for item in waiting if item.key not in found]
        # Each item has a budget of its own, so items with one are not drawn together.
        groups = [[item] for item in waiting] if self._budgets.turn else [waiting]
        for group in groups:
            yield from self._drawn(group, requests, pictures)

    def _request(self, item: BatchItem) -> ImageRequest:
        """Return the request of an item.

        Raises:
            InputError: If it is not valid, or names a picture that is not stored.
        """
        fields = dict(item.data["request"])
        if not item.data.get("is_edit"):
            return _request_of(fields)
        recipe = self._store.get(fields["image"]).recipe
        names = ("image", "mask", "strength", "references", "negative_prompt", "seed")
        given = {name: fields.pop(name) for name in names if name in fields}
        try:
            edit = EditRequest(
                instruction=fields.pop("prompt"), original=None if recipe is None else recipe.request, **given
            )
        except ValidationError as error:
            raise InputError(f"This edit is not possible: {error.errors()[0]['msg']}.") from error
        plan = plan_edit(edit, self._generator.capabilities, generator=self._generator.name)
        options = {**plan.request.options, **fields.pop("options", {})}
        return _request_of({**plan.request.model_dump(exclude_none=True), **fields, "options": options})

    def _found(self, requests: dict[str, ImageRequest]) -> dict[str, Artifact]:
        """Return the pictures that an interrupted run has stored, by key of the item."""
        keys = {_call(name, request): name for name, request in requests.items()}
        calls = {key: requests[name] for key, name in keys.items()}
        stored = self._store.find_drawn(calls, generator=self._generator.name) if calls else {}
        return {keys[key]: artifact for key, artifact in stored.items()}

    def _drawn(
        self, items: Sequence[BatchItem], requests: dict[str, ImageRequest], pictures: dict[str, Image.Image]
    ) -> Iterator[BatchRow]:
        wanted = [requests[item.key] for item in items]
        meter = Meter(self._budgets, self._prices)
        for event in draw(self._generator, wanted, pictures=pictures, meter=meter) if wanted else ():
            if isinstance(event, ImageResult):
                yield self._result_row(items[event.index], event)

    def _result_row(self, item: BatchItem, result: ImageResult) -> BatchRow:
        if result.image is None:
            return failed_row(item, result.error or ToolError("There is no picture."))
        started = time.monotonic() - result.seconds
        try:
            artifact = self._store.put(replace(result, call=_call(item.key, result.request)))
        except ToolError as error:
            return failed_row(item, error)
        return self._kept(item, artifact, started=started)

    def _kept(self, item: BatchItem, artifact: Artifact, *, started: float) -> BatchRow:
        """Write the file of a stored picture, and return its row."""
        path = Path(item.data["file"])
        try:
            write_atomically(path, self._store.path(artifact.id).read_bytes())
        except (InputError, ToolError, OSError) as error:
            return failed_row(item, error)
        drawn = artifact.recipe.request if artifact.recipe is not None else None
        result: dict[str, Any] = {
            "artifact_id": artifact.id,
            "prompt": drawn.prompt if drawn is not None else "",
            "seed": drawn.seed if drawn is not None else None,
            "notices": [notice.message for notice in artifact.notices],
            "cost_usd": artifact.cost_usd,
        }
        seconds = round(time.monotonic() - started, 3)
        return BatchRow(
            item.key, item.fingerprint, files=(str(path),), result=result, seconds=seconds, worker=worker_name()
        )


def _request_of(fields: dict[str, Any]) -> ImageRequest:
    try:
        return ImageRequest.model_validate(fields)
    except ValidationError as error:
        raise InputError(f"The image request is not valid: {error.errors()[0]['msg']}.") from error


def _call(key: str, request: ImageRequest) -> str:
    return call_key(OWNER, key, request)
