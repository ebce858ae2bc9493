"""`POST /v1/images/generations` and `POST /v1/images/edits`: pictures by any generator of the server.

The forms are those of OpenAI's API, as its SDK has them. Each picture also has its `id` in the store, its `seed` and
`notices` on what was changed or left out. `usage` has the tokens that a server of the images API counted. Generators on
this machine count none, so `usage` is left out; only the last event of a stream must have it, and then it is 0.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import MgemError, ToolError
from mgem_agent.server.chat_request import read_body
from mgem_agent.server.event_stream import EventStream, ServerSentEvent
from mgem_agent.server.gathering import GatheringGenerator
from mgem_agent.server.http_errors import InvalidRequestError, NotFoundError
from mgem_agent.server.image_plan import ImagePlan, ImagesBody, plan_edits, plan_images
from mgem_agent.server.picture_wishes import read_fields
from mgem_agent.server.security import User
from mgem_agent.server.service import AgentService
from mgem_agent.tools.image_result import GenerationProgress, ImageResult
from mgem_agent.tools.image_usage import ImageUsage

__all__ = ["find_generator", "images_router"]

IMAGE_FIELDS = ("image", "image[]", "images", "images[]")
MAX_FORM_FIELDS = 64


@dataclass(frozen=True, slots=True)
class _Call:
    """A request that is ready to be drawn."""

    user: User
    store: ArtifactStore
    body: ImagesBody
    generator: GatheringGenerator
    plan: ImagePlan
    request: Request


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A drawn picture that is stored."""

    result: ImageResult
    artifact: Artifact


def images_router(service: AgentService) -> APIRouter:
    """Return the routes of the images API.

    Args:
        service: The parts of the server.
    """
    router = APIRouter()

    @router.post("/v1/images/generations")
    async def generations(request: Request) -> Response:
        body = read_fields(ImagesBody, _as_object(await read_body(request)))
        generator = find_generator(service, body.model)
        defaults = service.config.draw_defaults
        plan = await asyncio.to_thread(plan_images, body, generator, defaults=defaults)
        return await _answer(service, request, body, generator, plan)

    @router.post("/v1/images/edits")
    async def edits(request: Request) -> Response:
        fields, images, mask = await _edit_fields(request, service.settings.max_pictures_in)
        body = read_fields(ImagesBody, fields)
        generator = find_generator(service, body.model)
        store = service.store(service.user(request))
        defaults = service.config.draw_defaults
        options: dict[str, Any] = {"defaults": defaults, "allow_urls": service.settings.allow_urls}
        plan = await asyncio.to_thread(plan_edits, body, images, mask, generator, store, **options)
        return await _answer(service, request, body, generator, plan)

    return router


def find_generator(service: AgentService, name: str | None) -> GatheringGenerator:
    """Return the generator that a client names.

    Args:
        service: The parts of the server.
        name: A name from `/v1/models`, or an alias of the settings; None for the default.

    Raises:
        NotFoundError: If there is no such generator.
    """
    if name is None:
        return service.generators.get()
    wanted = service.settings.model_aliases.get(name, name)
    try:
        return service.generators.get(wanted)
    except NotFoundError as error:
        raise NotFoundError(
            f"{error} To give one of them this name: mgem config set server.model_aliases "
            f"'{{{json.dumps(name[:80])} = {json.dumps(service.generators.default)}}}'",
            param="model",
        ) from None


async def _answer(
    service: AgentService, request: Request, body: ImagesBody, generator: GatheringGenerator, plan: ImagePlan
) -> Response:
    call = _Call(service.user(request), service.store(service.user(request)), body, generator, plan, request)
    body.format  # noqa: B018  # raises before anything is drawn
    if body.response_format == "url" and body.format.type != "png":
        raise InvalidRequestError(
            f"Pictures at an address are PNG, and output_format is {body.format.type!r}. Leave out output_format, or "
            "set response_format to 'b64_json'.",
            param="output_format",
        )
    if body.stream:
        return EventStream(_events(service, call))
    drawn: list[_Drawn] = []
    results = await _draw(service, call, drawn)
    by_index = {each.result.index: each for each in drawn}
    data = [await asyncio.to_thread(_item, service, call, by_index[index]) for index in sorted(by_index)]
    return JSONResponse(_images_response(call, data, results))


async def _draw(
    service: AgentService, call: _Call, drawn: list[_Drawn], *, events: asyncio.Queue[Any] | None = None
) -> list[ImageResult]:
    """Draw the pictures, and store each as soon as it is there.

    Raises:
        MgemError: If none could be drawn: why the first one was not.
    """
    loop = asyncio.get_running_loop()

    def keep(result: ImageResult) -> None:
        if result.image is None:
            return
        kept = _Drawn(result, call.store.put(result))
        drawn.append(kept)
        if events is not None:
            loop.call_soon_threadsafe(events.put_nowait, kept)

    results = await service.jobs.draw(
        call.user,
        call.generator,
        call.plan.requests,
        pictures=call.plan.pictures,
        request=call.request,
        on_progress=None if events is None else events.put_nowait,
        on_result=keep,
        meter=service.meter(),
        num_previews=(call.body.partial_images or 0) if events is not None else 0,
    )
    if not drawn:
        raise results[0].error or ToolError("The generator drew no picture.")
    return results


async def _events(service: AgentService, call: _Call) -> AsyncGenerator[ServerSentEvent, None]:
    """Yield the events of a stream: unfinished pictures, and each finished one."""
    queue: asyncio.Queue[Any] = asyncio.Queue()
    drawing = asyncio.create_task(_draw(service, call, [], events=queue))
    drawing.add_done_callback(lambda _: queue.put_nowait(None))
    num_partial = [0] * len(call.plan.requests)
    try:
        while (event := await queue.get()) is not None:
            if isinstance(event, GenerationProgress):
                if event.preview is None:
                    continue
                shown = {
                    "b64_json": await asyncio.to_thread(call.body.format.of_image, event.preview),
                    "partial_image_index": num_partial[event.index],
                    "size": f"{event.preview.width}x{event.preview.height}",
                }
                num_partial[event.index] += 1
                yield _event(call, "partial_image", shown)
            else:
                item = await asyncio.to_thread(_item, service, call, event)
                yield _event(
                    call,
                    "completed",
                    {**item, **_size(event.artifact), "usage": _usage(event.result.usage or ImageUsage())},
                )
        await drawing
    finally:
        drawing.cancel()
        with suppress(asyncio.CancelledError, MgemError):
            await drawing


def _event(call: _Call, kind: str, fields: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    name = f"image_{'edit' if call.plan.is_edit else 'generation'}.{kind}"
    common = {
        "type": name,
        "created_at": int(time.time()),
        "background": call.body.background or "auto",
        "output_format": call.body.format.type,
        "quality": call.body.quality if call.body.quality not in (None, "standard", "hd") else "auto",
    }
    return name, common | fields


def _item(service: AgentService, call: _Call, drawn: _Drawn) -> dict[str, Any]:
    """Return a picture in OpenAI's form."""
    artifact, result = drawn.artifact, drawn.result
    item: dict[str, Any] = {"id": artifact.id, "seed": result.executed.seed}
    if call.body.response_format == "url" and not call.body.stream:
        item["url"] = service.picture_url(call.user, artifact.id, call.request)
    else:
        item["b64_json"] = call.body.format.of_file(call.store.path(artifact.id))
    if result.executed.prompt != call.body.prompt.strip():
        item["revised_prompt"] = result.executed.prompt
    notices = [notice.message for notice in (*call.plan.notices, *result.notices)]
    return item | {"notices": list(dict.fromkeys(notices))}


def _images_response(call: _Call, data: list[dict[str, Any]], results: list[ImageResult]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "created": int(time.time()),
        "data": data,
        "background": "opaque",
        "output_format": call.body.format.type,
    }
    known = [each.usage for each in results if each.usage is not None]
    if known:
        response["usage"] = _usage(sum(known, ImageUsage()))
    sizes = {(each.image.width, each.image.height) for each in results if each.image is not None}
    if len(sizes) == 1:
        [(width, height)] = sizes
        response["size"] = f"{width}x{height}"
    failures = [str(each.error) for each in results if each.error is not None]
    return response | ({"failures": failures} if failures else {})


def _size(artifact: Artifact) -> dict[str, str]:
    return {"size": f"{artifact.width}x{artifact.height}"}


def _usage(usage: ImageUsage) -> dict[str, Any]:
    num_in = usage.input_text_tokens + usage.input_image_tokens
    return {
        "input_tokens": num_in,
        "input_tokens_details": {"image_tokens": usage.input_image_tokens, "text_tokens": usage.input_text_tokens},
        "output_tokens": usage.output_tokens,
        "total_tokens": num_in + usage.output_tokens,
    }


def _as_object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise InvalidRequestError(f"The body is a {type(body).__name__!r}. Send a JSON object.")
    return body


async def _edit_fields(request: Request, max_pictures: int) -> tuple[dict[str, Any], list[Any], Any]:
    """Read the fields of an edit, its pictures and its mask, from a form or from JSON.

    Raises:
        InvalidRequestError: If there is no picture, too many, or the body cannot be read.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        fields, images, mask = await _form(request, max_pictures)
    else:
        fields = _as_object(await read_body(request))
        images = []
        for name in IMAGE_FIELDS:
            given = fields.pop(name, None)
            images += given if isinstance(given, list) else [] if given is None else [given]
        mask = fields.pop("mask", None)
    if not 1 <= len(images) <= max_pictures:
        raise InvalidRequestError(
            f"{len(images)} pictures were sent in 'image'. Send 1 to {max_pictures}: files in a form, or data URLs.",
            param="image",
        )
    return fields, images, mask


async def _form(request: Request, max_pictures: int) -> tuple[dict[str, Any], list[Any], Any]:
    try:
        form = await request.form(max_files=max_pictures + 2, max_fields=MAX_FORM_FIELDS)
    except HTTPException as error:
        raise InvalidRequestError(f"The form cannot be read: {error.detail}.") from None
    fields: dict[str, Any] = {}
    images: list[Any] = []
    mask: Any = None
    async with request.form():
        for name, value in form.multi_items():
            content = await value.read() if isinstance(value, UploadFile) else value
            if name in IMAGE_FIELDS:
                images.append(content)
            elif name == "mask":
                mask = content
            elif isinstance(content, bytes):
                raise InvalidRequestError(
                    f"The form has a file in {name[:80]!r}. Files are 'image' and 'mask'.", param=name[:80]
                )
            elif content != "":
                fields[name] = content
    return fields, images, mask
