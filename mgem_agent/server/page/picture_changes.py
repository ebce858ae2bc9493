"""Requests of the gallery for new versions of a picture: drawn again, varied or edited.

A new version is a new picture. The old one is never changed.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, cast, get_args

from pydantic import ValidationError

from mgem_agent.agent.drawing import read_request
from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.errors import InputError
from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.tools.editing_plan import EditRequest, EditWay, plan_edit
from mgem_agent.tools.image_request import ImageRequest

__all__ = ["PictureChange", "edit_of", "redraw_of", "variations_of"]

MAX_SEED = 2**31
MAX_VARIATIONS = 8
VARIATION_STRENGTH = 0.6


@dataclass(frozen=True, slots=True)
class PictureChange:
    """What is drawn for a change.

    Attributes:
        title: What it is, for the page.
        requests: The requests.
        notices: What differs from what was asked.
        is_redraw: Whether the new picture is compared with the old one.
    """

    title: str
    requests: tuple[ImageRequest, ...]
    notices: tuple[str, ...] = ()
    is_redraw: bool = False


def redraw_of(artifact: Artifact, *, seed: int | None, new_seed: bool, prompt: str = "") -> PictureChange:
    """Return the request that draws a picture again.

    Args:
        artifact: The picture.
        seed: Another seed; None for the same one.
        new_seed: Whether a random seed is used.
        prompt: Another prompt; empty for the same one.

    Raises:
        InputError: If the picture was not drawn by this package, or a value is not valid.
    """
    request = _request_of(artifact)
    changes: dict[str, Any] = {}
    if new_seed or seed is not None:
        changes["seed"] = secrets.randbelow(MAX_SEED) if new_seed else seed
    if prompt.strip() and prompt.strip() != request["prompt"]:
        changes["prompt"] = prompt.strip()
    title = "Drawn again" if not changes else f"Drawn again with another {' and '.join(sorted(changes))}"
    return PictureChange(title, (read_request({**request, **changes}, {}),), is_redraw="prompt" not in changes)


def variations_of(
    artifact: Artifact, capabilities: Capabilities, *, number: int, strength: float | None
) -> PictureChange:
    """Return the requests for variations of a picture.

    A generator that can start from a picture varies the picture; any other one gets the same prompt with other seeds.

    Args:
        artifact: The picture.
        capabilities: What the generator supports.
        number: Number of variations, 1 to 8.
        strength: How much of the picture may change.

    Raises:
        InputError: If the number is out of range, or the generator can do neither.
    """
    if not 1 <= number <= MAX_VARIATIONS:
        raise InputError(f"{number} variations cannot be drawn at once. Give 1 to {MAX_VARIATIONS}.")
    changes: dict[str, Any] = {}
    notices: tuple[str, ...] = ()
    if "image_to_image" in capabilities.tasks:
        prompt = artifact.recipe.request.prompt if artifact.recipe else artifact.title
        base = artifact.recipe.request.model_dump(exclude_none=True) if artifact.recipe else {"prompt": prompt}
        changes = {"task": "image_to_image", "image": artifact.id, "mask": None}
        changes["strength"] = VARIATION_STRENGTH if strength is None else strength
    elif not capabilities.seed:
        raise InputError(
            "This generator neither starts from a picture nor uses seeds, so every variation would be the same. Change "
            "the prompt under Draw again, or use another generator."
        )
    else:
        base = _request_of(artifact)
        notices = ("This generator cannot start from a picture. The variations use the same prompt with other seeds.",)
    requests = tuple(read_request({**base, **changes, "seed": secrets.randbelow(MAX_SEED)}, {}) for _ in range(number))
    return PictureChange("Variations" if number > 1 else "A variation", requests, notices)


def edit_of(
    artifact: Artifact,
    capabilities: Capabilities,
    *,
    generator: str,
    instruction: str,
    strength: float | None = None,
    mask: str | None = None,
    any_way: bool = False,
) -> PictureChange:
    """Return the request that edits a picture.

    Args:
        artifact: The picture.
        capabilities: What the generator supports.
        generator: Name of the generator, for messages.
        instruction: What to change.
        strength: How much of the picture may change.
        mask: Id of a picture whose white parts are redrawn.
        any_way: Whether another way may be used if the generator cannot follow the instruction.

    Raises:
        InputError: If the instruction is empty or a value is out of range.
        UnsupportedRequestError: If the generator supports none of the allowed ways.
    """
    if not instruction.strip():
        raise InputError("The instruction is empty. Write what to change, such as: make it night.")
    try:
        edit = EditRequest(
            instruction=instruction,
            image=artifact.id,
            mask=mask,
            strength=strength,
            original=None if artifact.recipe is None else artifact.recipe.request,
            fallbacks=cast("tuple[EditWay, ...]", get_args(EditWay)) if any_way else (),
        )
    except ValidationError as error:
        raise InputError(f"This edit is not possible: {error.errors()[0]['msg']}.") from error
    plan = plan_edit(edit, capabilities, generator=generator)
    return PictureChange("Edited", (plan.request,), tuple(notice.message for notice in plan.notices))


def _request_of(artifact: Artifact) -> dict[str, Any]:
    if artifact.recipe is None:
        raise InputError(
            f"{artifact.id} was not drawn by mgem, so it cannot be drawn again. Use Edit or Vary to make a version."
        )
    return artifact.recipe.request.model_dump(exclude_none=True)
