"""Draw a stored picture again from its record, and compare the two."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from mgem_agent.artifacts.artifact import Artifact, PictureRecipe
from mgem_agent.artifacts.comparison import compare_picture
from mgem_agent.artifacts.shareable import shareable_name
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import GeneratorOutputError, InputError
from mgem_agent.tools.budget import Meter
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_result import GenerationProgress

__all__ = ["RedrawnPicture", "is_recorded_as", "recipe_of", "redraw_picture"]


@dataclass(frozen=True, slots=True)
class RedrawnPicture:
    """A picture that was drawn again.

    Attributes:
        artifact: The new picture; an identical one is the old one.
        comparison: How it compares with the old one, in words.
    """

    artifact: Artifact
    comparison: str


def recipe_of(artifact_id: str, store: ArtifactStore) -> PictureRecipe:
    """Return how a picture was drawn.

    Args:
        artifact_id: Its id.
        store: The store of the pictures.

    Raises:
        InputError: If the id is unknown, or the picture was not drawn by this package.
    """
    recipe = store.get(artifact_id).recipe
    if recipe is None:
        raise InputError(
            f"{artifact_id!r} has no record of how it was drawn, so it cannot be redrawn. Give a picture drawn by mgem."
        )
    return recipe


def is_recorded_as(name: str, recorded: str) -> bool:
    """Whether a record names a generator, by its full name or by its shareable name.

    Args:
        name: Name of the generator.
        recorded: Name in the record of a picture.
    """
    return recorded in (name, shareable_name(name))


def redraw_picture(
    artifact_id: str,
    store: ArtifactStore,
    generator: ImageGenerator,
    *,
    seed: int | None = None,
    cancel: threading.Event | None = None,
    on_progress: Callable[[GenerationProgress], None] | None = None,
    meter: Meter | None = None,
) -> RedrawnPicture:
    """Draw a picture again and store it.

    Args:
        artifact_id: Id of the picture.
        store: The store of the pictures.
        generator: The generator that draws.
        seed: Another seed, for a variation.
        cancel: Set this from another thread to stop.
        on_progress: Called with each step.
        meter: Refuses a picture that would pass a budget, and counts what is spent.

    Raises:
        InputError: If the id is unknown, or the picture was not drawn by this package, or the seed is out of range.
        BudgetExceededError: If the picture would pass a budget.
        ToolError: If drawing fails or is cancelled.
    """
    request = recipe_of(artifact_id, store).request
    if seed is not None:
        if not 0 <= seed < 2**63:
            raise InputError(f"seed is {seed}. Allowed: 0 to {2**63 - 1}.")
        request = request.model_copy(update={"seed": seed})
    pictures = {name: store.open(name) for name in request.picture_ids}
    for event in draw(generator, [request], pictures=pictures, cancel=cancel, meter=meter):
        if isinstance(event, GenerationProgress):
            if on_progress is not None:
                on_progress(event)
        elif event.error is not None:
            raise event.error
        else:
            artifact = store.put(event)
            data = store.path(artifact.id).read_bytes()
            return RedrawnPicture(artifact, compare_picture(data, store.path(artifact_id)))
    raise GeneratorOutputError(f"Generator {generator.name!r} gave no result.")
