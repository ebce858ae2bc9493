"""Routes of the story desk: from a premise or a recipe over the outline and the pages to the book."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from pydantic import ValidationError

from mgem_agent.errors import InputError
from mgem_agent.server.page.live_events import live_response
from mgem_agent.server.page.page_route import PageRoute, go_to, is_htmx
from mgem_agent.server.page.page_state import PageState
from mgem_agent.server.page.story_actions import StoryActions, shipped_recipes
from mgem_agent.server.page.uploads import uploaded_recipe
from mgem_agent.server.security import User
from mgem_agent.workflows.outline_decision import OutlineDecision
from mgem_agent.workflows.recipe_options import validated_recipe
from mgem_agent.workflows.story import Story, StoryCharacter
from mgem_agent.workflows.story_recipe import StoryRecipe
from mgem_agent.workflows.story_revision import PageRevision

__all__ = ["story_router"]

MAX_SEED = 2**31
STYLE_ELEMENT = re.compile(r"<style>(.*?)</style>", re.DOTALL)
STYLE_ATTRIBUTE = re.compile(r' style="([^"]*)"')

Text = Annotated[str, Form()]
Flag = Annotated[bool, Form()]


def story_router(page: PageState) -> APIRouter:
    """Return the routes of the story desk.

    Args:
        page: The state of the page.
    """
    router = APIRouter(route_class=PageRoute)
    stories = StoryActions(page)
    _add_reading(router, page, stories)
    _add_telling(router, page, stories)
    _add_revising(router, page, stories)
    return router


def _add_reading(router: APIRouter, page: PageState, stories: StoryActions) -> None:
    @router.get("/stories")
    def desk(request: Request) -> Response:
        user = page.user(request)
        running = {str(key[1]) for key in page.stories.keys() if isinstance(key, tuple) and key[0] == user.namespace}
        return page.page(
            "stories.html",
            user,
            shelved=page.shelf(user).list(),
            running=running,
            recipes=shipped_recipes(),
            generators=page.service.generators.names,
        )

    @router.get("/stories/{name}")
    def story(request: Request, name: str) -> Response:
        user = page.user(request)
        return page.page("story.html", user, **stories.view(user, name))

    @router.get("/stories/{name}/latest")
    def latest(request: Request, name: str) -> Response:
        user = page.user(request)
        return page.page("_story.html", user, **stories.view(user, name))

    @router.get("/stories/{name}/events")
    async def events(request: Request, name: str) -> Response:
        user = page.user(request)
        live = page.stories.running((user.namespace, name))
        return live_response(live, lambda template, **found: page.render(template, user, name=name, **found))

    @router.get("/stories/{name}/book.{form}")
    def book(request: Request, name: str, form: str, download: bool = False) -> Response:
        found = stories.book(page.user(request), name, form)
        headers = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; sandbox"}
        if form == "html":
            headers["Content-Security-Policy"] = _book_policy(found.data.decode())
        if download or form == "md":
            headers["Content-Disposition"] = f'attachment; filename="{found.name}"'
        elif form == "pdf":
            headers["Content-Disposition"] = f'inline; filename="{found.name}"'
            headers["Content-Security-Policy"] = "frame-ancestors 'none'"  # anything more blocks the browser's viewer
        return Response(found.data, media_type=found.media_type, headers=headers)


def _add_telling(router: APIRouter, page: PageState, stories: StoryActions) -> None:
    @router.post("/stories")
    async def begin(
        request: Request,
        premise: Text = "",
        recipe: Text = "",
        kind: Text = "",
        scenes: Text = "",
        style: Text = "",
        language: Text = "",
        budget: Text = "",
        generator: Text = "",
        approve: Flag = False,
        file: Annotated[UploadFile | None, File()] = None,
    ) -> Response:
        user = page.user(request)
        chosen = await _recipe(stories, premise, recipe, file)
        if scenes.strip() and not scenes.strip().isdecimal():
            raise InputError(f"{scenes[:40]!r} is not a number of scenes. Give 1 to 64, or leave it empty.")
        num_scenes = int(scenes) if scenes.strip() and isinstance(chosen.scenes, int) else None
        options = {
            "kind": kind if premise.strip() and kind else None,
            "scenes": num_scenes,
            "style": style.strip() or None,
            "language": language.strip() or None,
            "budget": budget.strip() or None,
        }
        name = stories.begin(user, chosen, options, approve=approve, generator=generator)
        return go_to(request, f"/stories/{name}")

    @router.post("/stories/{name}/decide")
    async def decide(request: Request, name: str) -> Response:
        user = page.user(request)
        story = page.shelf(user).get(name).story
        form = await request.form()
        await stories.resume(user, name, _decision(story, {key: str(value) for key, value in form.items()}))
        return go_to(request, f"/stories/{name}")

    @router.post("/stories/{name}/resume")
    async def resume(request: Request, name: str, budget: Text = "") -> Response:
        await stories.resume(page.user(request), name, None, budget=budget.strip())
        return go_to(request, f"/stories/{name}")

    @router.post("/stories/{name}/stop")
    async def stop(request: Request, name: str) -> Response:
        live = page.stories.running((page.user(request).namespace, name))
        if live is not None:
            live.stop()
        return Response(status_code=204) if is_htmx(request) else go_to(request, f"/stories/{name}")


def _add_revising(router: APIRouter, page: PageState, stories: StoryActions) -> None:
    async def revise(request: Request, user: User, name: str, **fields: Any) -> Response:
        try:
            revision = PageRevision.model_validate(fields)
        except ValidationError as error:
            message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            raise InputError(f"This change is not possible: {message}") from error
        await stories.revise(user, name, revision)
        return go_to(request, f"/stories/{name}#page-{revision.index}")

    @router.post("/stories/{name}/pages/{index}/words")
    async def words(request: Request, name: str, index: int, title: Text = "", text: Text = "") -> Response:
        return await revise(
            request, page.user(request), name, index=index, title=title, text=text.replace("\r\n", "\n")
        )

    @router.post("/stories/{name}/pages/{index}/rewrite")
    async def rewrite(request: Request, name: str, index: int, wish: Text = "") -> Response:
        return await revise(request, page.user(request), name, index=index, write=True, wish=wish)

    @router.post("/stories/{name}/pages/{index}/redraw")
    async def redraw(
        request: Request, name: str, index: int, caption: Text = "", seed: Text = "", new_seed: Flag = False
    ) -> Response:
        user = page.user(request)
        story = page.shelf(user).get(name).story
        if seed.strip() and not seed.strip().isdecimal():
            raise InputError(f"{seed[:40]!r} is not a seed. Give a whole number from 0, or leave it empty.")
        chosen = secrets.randbelow(MAX_SEED) if new_seed else int(seed) if seed.strip() else None
        old = story.scenes[index - 1].caption if 1 <= index <= len(story.scenes) else ""
        changed = caption.strip() if caption.strip() != old else None
        return await revise(request, user, name, index=index, caption=changed or None, draw=True, seed=chosen)

    @router.post("/stories/{name}/pages/{index}/picture")
    async def picture(request: Request, name: str, index: int, picture: Text) -> Response:
        return await revise(request, page.user(request), name, index=index, picture=picture)


async def _recipe(stories: StoryActions, premise: str, recipe: str, file: UploadFile | None) -> StoryRecipe:
    """Return the recipe that a form names; exactly one of its three fields is filled in.

    Raises:
        InputError: If it names none or several, or the recipe is not valid.
    """
    has_file = file is not None and bool(file.filename)
    if sum((bool(premise.strip()), bool(recipe), has_file)) != 1:
        raise InputError("Give one of three: a premise, a built-in recipe, or a recipe file.")
    if file is not None and has_file:
        return await uploaded_recipe(file)
    if recipe:
        return stories.shipped(recipe)
    return validated_recipe({"premise": premise.replace("\r\n", "\n")})


def _decision(story: Story, form: dict[str, str]) -> OutlineDecision:
    """Return the decision of an outline's form.

    Raises:
        InputError: If a field is not valid.
    """
    if form.get("verdict") == "refuse":
        return OutlineDecision(verdict="refuse")
    lines = tuple(form.get(f"line-{scene.index}", "").strip() for scene in story.scenes)
    names = [(form.get(f"name-{place}", "").strip(), form.get(f"looks-{place}", "").strip()) for place in range(12)]
    cast = tuple(StoryCharacter(name=name, looks=looks) for name, looks in names if name)
    title = form.get("title", "").strip()
    if len(title) > 300:
        raise InputError("The title is too long. Give at most 300 characters.")
    return OutlineDecision(title=title or None, outline=lines, cast=cast if cast or story.cast else None)


def _book_policy(html: str) -> str:
    """Return the policy of a book's page: its own styles by their hashes, its own pictures, and nothing else."""
    parts = [*STYLE_ELEMENT.findall(html)[:1], *dict.fromkeys(STYLE_ATTRIBUTE.findall(html))]
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" for part in parts)
    return f"default-src 'none'; img-src data:; style-src 'unsafe-hashes' {hashes}; sandbox allow-downloads"
