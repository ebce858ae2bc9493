"""From a request of the images API to requests for a generator."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image
from pydantic import Field, ValidationError

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.server.http_errors import InvalidRequestError
from mgem_agent.server.picture_inputs import keep_mask, keep_picture
from mgem_agent.server.picture_wishes import PictureWishes
from mgem_agent.tools.capabilities import Capabilities, Notice
from mgem_agent.tools.editing_plan import EditRequest, EditWay, plan_edit
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.tool_arguments import wrong_fields

__all__ = ["ImagePlan", "ImagesBody", "plan_edits", "plan_images", "plan_one_edit"]

MAX_IMAGES = 10
MAX_SEED = 2**32
FALLBACKS: tuple[EditWay, ...] = ("image_to_image", "redraw")
"""Ways to edit a picture with a generator that follows no instructions; the result has a notice. They are not used with
a mask, because they would change the whole picture."""


class ImagesBody(PictureWishes):
    """The body of a request to the images API.

    Attributes:
        prompt: What to draw or to change.
        n: Number of pictures.
        response_format: Whether pictures are in the response or at an address of this server.
        stream: Whether events are sent while the pictures are drawn.
        user: Ignored: users are known by their token.
        safety_identifier: As for `user`.
    """

    prompt: str = Field(min_length=1, max_length=10_000)
    n: int = Field(default=1, ge=1, le=MAX_IMAGES)
    response_format: Literal["url", "b64_json"] | None = None
    stream: bool = False
    user: str | None = None
    safety_identifier: str | None = None


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """What to draw for a request.

    Attributes:
        requests: One request for each picture.
        pictures: The pictures that they name, by id.
        notices: Fields that were changed or left out, for every picture.
        is_edit: Whether pictures are edited.
    """

    requests: tuple[ImageRequest, ...]
    pictures: Mapping[str, Image.Image] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    is_edit: bool = False


def plan_images(body: ImagesBody, generator: ImageGenerator, *, defaults: Mapping[str, Any]) -> ImagePlan:
    """Return what to draw for a request without pictures.

    Args:
        body: The request.
        generator: The generator.
        defaults: Values of fields that the request does not set.

    Raises:
        InputError: If the request is not valid, or the generator cannot do it.
    """
    able = generator.capabilities
    if body.strength is not None:
        raise InvalidRequestError(
            "strength needs a picture to start from. Send the request to /v1/images/edits.", param="strength"
        )
    options, notices = body.options_for(able, generator=generator.name)
    request = _request({**defaults, **body.request_fields(), "prompt": body.prompt, "options": options})
    return ImagePlan(_seeded(request, body.n, able), notices=notices)


def plan_edits(
    body: ImagesBody,
    images: Sequence[Any],
    mask: Any,
    generator: ImageGenerator,
    store: ArtifactStore,
    *,
    defaults: Mapping[str, Any],
    allow_urls: bool = False,
) -> ImagePlan:
    """Return what to draw for a request with pictures: the first one is changed, the others are references.

    Args:
        body: The request.
        images: The pictures, as for `keep_picture`.
        mask: The mask, or None.
        generator: The generator.
        store: The user's pictures.
        defaults: Values of fields that the request does not set.
        allow_urls: Whether pictures may be fetched from the web.

    Raises:
        InputError: If the request is not valid, a picture cannot be read, or the generator cannot do it.
    """
    kept = [keep_picture(image, store, param="image", allow_urls=allow_urls) for image in images]
    request, pictures, notices = plan_one_edit(
        body.prompt,
        kept,
        None if mask is None else keep_mask(mask, store, allow_urls=allow_urls),
        body,
        generator,
        store,
        defaults=defaults,
    )
    return ImagePlan(_seeded(request, body.n, generator.capabilities), pictures, notices, is_edit=True)


def plan_one_edit(
    instruction: str,
    images: Sequence[str],
    mask: str | None,
    wishes: PictureWishes,
    generator: ImageGenerator,
    store: ArtifactStore,
    *,
    defaults: Mapping[str, Any],
) -> tuple[ImageRequest, dict[str, Image.Image], tuple[Notice, ...]]:
    """Return the request that edits a stored picture, the pictures that it names, and notices.

    Args:
        instruction: What to change.
        images: Ids of the picture and of its references.
        mask: Id of the mask, or None.
        wishes: Further fields of the client's request.
        generator: The generator.
        store: The user's pictures.
        defaults: Values of fields that the client does not set; a size is that of the picture.

    Raises:
        InputError: If the request is not valid, or the generator cannot do it.
    """
    able = generator.capabilities
    options, notices = wishes.options_for(able, generator=generator.name)
    recipe = store.get(images[0]).recipe
    asked = wishes.request_fields()
    edit = EditRequest(
        instruction=instruction,
        image=images[0],
        references=tuple(images[1:]),
        mask=mask,
        original=recipe.request if recipe is not None else None,
        fallbacks=FALLBACKS if mask is None else (),
        **{name: asked[name] for name in ("strength", "negative_prompt", "seed") if name in asked},
    )
    plan = plan_edit(edit, able, generator=generator.name)
    kept = {name: value for name, value in defaults.items() if name not in ("width", "height", "seed")}
    given = plan.request.model_dump(exclude_none=True)
    wanted = {name: value for name, value in asked.items() if name not in given or name in ("width", "height")}
    request = _request({**kept, **given, **wanted, "options": {**given.get("options", {}), **options}})
    pictures: dict[str, Image.Image] = {}
    for name in request.picture_ids:
        with suppress(InputError):  # what an original was made from may be deleted; drawing reports it
            pictures[name] = store.open(name)
    return request, pictures, (*notices, *plan.notices)


def _request(fields: Mapping[str, Any]) -> ImageRequest:
    try:
        return ImageRequest.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequestError(f"The request is not valid. {wrong_fields(error)}.") from error


def _seeded(request: ImageRequest, num: int, able: Capabilities) -> tuple[ImageRequest, ...]:
    """Return a request for each picture: with the next seeds, or with random ones if no seed is given."""
    if num == 1:
        return (request,)
    if request.seed is not None:
        return tuple(request.model_copy(update={"seed": (request.seed + place) % 2**63}) for place in range(num))
    if not able.seed:
        return (request,) * num
    return tuple(request.model_copy(update={"seed": secrets.randbelow(MAX_SEED)}) for _ in range(num))
