"""Routes of the gallery: search, a picture's own page, its versions, and new versions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from fastapi.responses import FileResponse, JSONResponse
from PIL import Image

from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.shareable import shareable_recipe
from mgem_agent.errors import InputError
from mgem_agent.server.http_errors import NotFoundError
from mgem_agent.server.page.gallery import GalleryQuery, facts_of, session_pictures
from mgem_agent.server.page.live_drawing import LiveDrawing
from mgem_agent.server.page.live_events import live_response
from mgem_agent.server.page.page_route import PageRoute, go_to, is_htmx
from mgem_agent.server.page.page_state import PageState
from mgem_agent.server.page.picture_changes import PictureChange, edit_of, redraw_of, variations_of
from mgem_agent.server.page.thumbnails import SIZES
from mgem_agent.server.page.uploads import store_upload
from mgem_agent.server.security import User
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult

__all__ = ["gallery_router"]

CACHED = {"Cache-Control": "private, max-age=31536000, immutable", "Content-Security-Policy": "default-src 'none'"}
MAX_COMPARED = 4
Compared = Annotated[list[str], Query(min_length=2, max_length=MAX_COMPARED)]
Text = Annotated[str, Form()]


def gallery_router(page: PageState) -> APIRouter:
    """Return the routes of the gallery.

    Args:
        page: The state of the page.
    """
    router = APIRouter(route_class=PageRoute)
    _add_browsing(router, page)
    _add_files(router, page)
    _add_versions(router, page)
    return router


def _add_browsing(router: APIRouter, page: PageState) -> None:
    @router.get("/gallery")
    def gallery(
        request: Request,
        words: str = "",
        session: str = "",
        generator: str = "",
        model: str = "",
        number: Annotated[int, Query(alias="page", ge=1)] = 1,
    ) -> Response:
        user = page.user(request)
        pictures, sessions = page.pictures(user), page.sessions(user)
        within = session_pictures(sessions, session) if session else None
        found = pictures.find(GalleryQuery(words, generator, model, within, number))
        given = {"words": words, "session": session, "generator": generator, "model": model}
        chosen = {name: value for name, value in given.items() if value}
        return page.page(
            "_found.html" if is_htmx(request) else "gallery.html",
            user,
            found=found,
            chosen=given,
            address=lambda number: "/gallery?" + urlencode({**chosen, "page": number}),
            sessions=[each for each in sessions.list() if each.num_pictures or each.name == session],
            generators=pictures.generators(),
            models=pictures.models(),
        )

    @router.get("/gallery/compare")
    def compare(request: Request, picture: Compared) -> Response:
        user = page.user(request)
        shown = [page.store(user).get(name) for name in dict.fromkeys(picture)]
        facts = [{"Prompt": each.title, **facts_of(each), "Id": each.id} for each in shown]
        names = list(dict.fromkeys(name for each in facts for name in each))
        rows = [(name, [each.get(name, "") for each in facts]) for name in names]
        return page.page("compare.html", user, shown=shown, rows=rows)

    @router.get("/gallery/{picture_id}")
    def picture(request: Request, picture_id: str) -> Response:
        user = page.user(request)
        return page.page("picture.html", user, **_shown(page, user, picture_id))

    @router.get("/gallery/{picture_id}/latest")
    def latest(request: Request, picture_id: str) -> Response:
        user = page.user(request)
        return page.page("_versions.html", user, **_shown(page, user, picture_id))

    @router.get("/gallery/{picture_id}/events")
    async def events(request: Request, picture_id: str) -> Response:
        user = page.user(request)
        live = page.drawings.running((user.namespace, picture_id))
        return live_response(live, lambda template, **found: page.render(template, user, **found))


def _add_files(router: APIRouter, page: PageState) -> None:
    @router.get("/thumbnails/{picture_id}")
    def thumbnail(request: Request, picture_id: str, size: int = SIZES[0]) -> Response:
        if size not in SIZES:
            raise InputError(f"There is no thumbnail of {size} pixels. Allowed: {', '.join(map(str, SIZES))}.")
        data = page.thumbnails.get(page.store(page.user(request)), picture_id, size)
        return Response(data, media_type="image/webp", headers=CACHED)

    @router.get("/gallery/{picture_id}/download")
    def download(request: Request, picture_id: str) -> Response:
        path = page.store(page.user(request)).path(picture_id)
        return FileResponse(path, media_type="image/png", headers=CACHED, filename=f"{path.stem}.png")

    @router.get("/gallery/{picture_id}/recipe.json")
    def recipe(request: Request, picture_id: str) -> Response:
        artifact = page.store(page.user(request)).get(picture_id)
        if artifact.recipe is None:
            raise NotFoundError(f"{artifact.id} was not drawn by mgem, so it has no recipe.")
        data = shareable_recipe(artifact.recipe).model_dump(mode="json", exclude_none=True)
        name = f'attachment; filename="{artifact.id}.json"'
        return JSONResponse(data, headers={"Content-Disposition": name})


def _add_versions(router: APIRouter, page: PageState) -> None:
    async def begin(request: Request, user: User, source: Artifact, change: PictureChange, generator: str) -> Response:
        key = (user.namespace, source.id)
        if await page.drawings.running_long(key) is not None:
            raise InputError("A version of this picture is being drawn. Wait for it, or stop it.")
        live = LiveDrawing(source, change, page.store(user))
        chosen = page.service.generators.get(generator or None)
        page.drawings.put(key, live)
        live.start(lambda requests, pictures, progress: draw(user, chosen, live, requests, pictures, progress))
        return go_to(request, f"/gallery/{source.id}#versions")

    async def draw(
        user: User,
        generator: ImageGenerator,
        live: LiveDrawing,
        requests: Sequence[ImageRequest],
        pictures: Mapping[str, Image.Image],
        progress: Callable[[GenerationProgress], None],
    ) -> Sequence[ImageResult]:
        return await page.service.jobs.draw(
            user,
            generator,
            requests,
            pictures=pictures,
            on_progress=progress,
            on_result=live.keep,
            meter=page.service.meter(),
        )

    @router.post("/gallery/{picture_id}/redraw")
    async def redraw(
        request: Request,
        picture_id: str,
        generator: Text = "",
        prompt: Text = "",
        seed: Text = "",
        new_seed: Annotated[bool, Form()] = False,
    ) -> Response:
        user = page.user(request)
        source = page.store(user).get(picture_id)
        wanted = int(seed) if seed.strip().isdecimal() else None
        if seed.strip() and wanted is None:
            raise InputError(f"{seed[:40]!r} is not a seed. Give a whole number from 0, or leave it empty.")
        change = redraw_of(source, seed=wanted, new_seed=new_seed, prompt=prompt.replace("\r\n", "\n"))
        return await begin(request, user, source, change, generator)

    @router.post("/gallery/{picture_id}/vary")
    async def vary(
        request: Request,
        picture_id: str,
        generator: Text = "",
        number: Annotated[int, Form()] = 3,
        strength: Annotated[float, Form(gt=0, le=1)] = 0.6,
    ) -> Response:
        user = page.user(request)
        source = page.store(user).get(picture_id)
        able = await asyncio.to_thread(lambda: page.service.generators.get(generator or None).capabilities)
        return await begin(
            request, user, source, variations_of(source, able, number=number, strength=strength), generator
        )

    @router.post("/gallery/{picture_id}/edit")
    async def edit(
        request: Request,
        picture_id: str,
        generator: Text = "",
        instruction: Text = "",
        strength: Text = "",
        any_way: Annotated[bool, Form()] = False,
        mask: Annotated[UploadFile | None, File()] = None,
    ) -> Response:
        user = page.user(request)
        source = page.store(user).get(picture_id)
        chosen = await asyncio.to_thread(lambda: page.service.generators.get(generator or None))
        able = await asyncio.to_thread(lambda: chosen.capabilities)
        mask_id = await store_upload(mask, page.store(user)) if mask is not None and mask.filename else None
        change = edit_of(
            source,
            able,
            generator=chosen.name,
            instruction=instruction.replace("\r\n", "\n"),
            strength=_strength(strength),
            mask=mask_id,
            any_way=any_way,
        )
        return await begin(request, user, source, change, generator)

    @router.post("/gallery/{picture_id}/stop")
    async def stop(request: Request, picture_id: str) -> Response:
        live = page.drawings.running((page.user(request).namespace, picture_id))
        if live is not None:
            live.stop()
        return Response(status_code=204) if is_htmx(request) else go_to(request, f"/gallery/{picture_id}")


def _strength(text: str) -> float | None:
    """Read a strength; None for an empty field.

    Raises:
        InputError: If it is not a number.
    """
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{text[:40]!r} is not a strength. Give a number above 0, up to 1.") from error


def _shown(page: PageState, user: User, picture_id: str) -> dict[str, Any]:
    """Return the variables of a picture's templates."""
    artifact = page.store(user).get(picture_id)
    pictures = page.pictures(user)
    live = page.drawings.get((user.namespace, artifact.id))
    parents = [(name, page.find(user, name)) for name in artifact.parents]
    return {
        "artifact": artifact,
        "facts": facts_of(artifact),
        "parents": parents,
        "children": pictures.children(artifact.id),
        "versions": pictures.versions(artifact),
        "live": live if live is not None and not live.is_over else None,
        "ended": live if live is not None and live.is_over else None,
        "generators": page.service.generators.names,
    }
