"""Routes of the chat: messages with pictures, answers as they come, decisions on captions, undo and fork."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, Request, Response, UploadFile

from mgem_agent.agent.decision import Decision
from mgem_agent.artifacts.picture_id import is_picture_id
from mgem_agent.server.page.chat_actions import ChatActions, ChatOptions
from mgem_agent.server.page.live_events import live_response
from mgem_agent.server.page.live_turn import LiveTurn
from mgem_agent.server.page.page_route import PageRoute, go_to, is_htmx
from mgem_agent.server.page.page_state import PageState
from mgem_agent.server.page.session_key import session_key, session_name
from mgem_agent.server.page.uploads import store_uploads
from mgem_agent.server.security import User
from mgem_agent.sessions.sessions import new_session_name

__all__ = ["chat_router"]

NUM_LATEST = 8

Text = Annotated[str, Form()]
Ids = Annotated[list[str] | None, Form()]
Files = Annotated[list[UploadFile] | None, File()]
Mode = Annotated[str, Form(pattern="^(|auto|always|never|direct)$")]


def chat_router(page: PageState) -> APIRouter:
    """Return the routes of the chat.

    Args:
        page: The state of the page.
    """
    router = APIRouter(route_class=PageRoute)
    chats = ChatActions(page)
    _add_reading(router, page, chats)
    _add_messages(router, page, chats)
    _add_changes(router, page, chats)
    return router


def _add_reading(router: APIRouter, page: PageState, chats: ChatActions) -> None:
    @router.get("/")
    def home(request: Request, picture: str = "") -> Response:
        user = page.user(request)
        attached = [picture] if is_picture_id(picture) and page.find(user, picture) else []
        return page.page(
            "home.html",
            user,
            **chats.recent(user),
            latest=page.store(user).list(NUM_LATEST),
            **chats.composer(picture_ids=attached),
        )

    @router.get("/chats")
    def all_chats(request: Request, words: str = "") -> Response:
        user = page.user(request)
        wanted = words.casefold().split()
        found = [each for each in page.sessions(user).list() if all(word in each.title.casefold() for word in wanted)]
        return page.page("chats.html", user, sessions=found, words=words, running=chats.running(user))

    @router.get("/chats/{key}")
    def chat(request: Request, key: str) -> Response:
        user, session = page.user(request), session_name(key)
        is_known = chats.live(user, session) is not None
        if not is_known:
            page.sessions(user).summary(session)  # an error if there is none
        return page.page("chat.html", user, **chats.view(user, session))

    @router.get("/chats/{key}/latest")
    def latest(request: Request, key: str) -> Response:
        user = page.user(request)
        return page.page("_latest.html", user, is_done=True, **chats.view(user, session_name(key)))

    @router.get("/chats/{key}/events")
    async def events(request: Request, key: str) -> Response:
        user = page.user(request)
        live = chats.running_turn(user, session_name(key))
        return live_response(live, lambda template, **found: page.render(template, user, **found))


def _add_messages(router: APIRouter, page: PageState, chats: ChatActions) -> None:
    async def begin(user: User, session: str, text: str, known: Ids, files: Files, options: ChatOptions) -> LiveTurn:
        """Store the pictures of a message, and begin its turn."""
        await chats.check_free(user, session)
        ids = [name for name in known or () if is_picture_id(name)]
        most = page.service.settings.max_pictures_in - len(ids)
        ids += await store_uploads(files or (), page.store(user), most=max(most, 0))
        return chats.say(user, session, text.replace("\r\n", "\n"), ids, options)

    @router.post("/chats")
    async def start_chat(
        request: Request,
        text: Text = "",
        mode: Mode = "",
        generator: Text = "",
        confirm: Annotated[bool, Form()] = False,
        picture_ids: Ids = None,
        pictures: Files = None,
    ) -> Response:
        user, session = page.user(request), new_session_name("chat")
        await begin(user, session, text, picture_ids, pictures, ChatOptions(mode, generator, confirm))
        return go_to(request, f"/chats/{session_key(session)}")

    @router.post("/chats/{key}/messages")
    async def send_message(
        request: Request,
        key: str,
        text: Text = "",
        mode: Mode = "",
        generator: Text = "",
        confirm: Annotated[bool, Form()] = False,
        picture_ids: Ids = None,
        pictures: Files = None,
    ) -> Response:
        user, session = page.user(request), session_name(key)
        turn = await begin(user, session, text, picture_ids, pictures, ChatOptions(mode, generator, confirm))
        if not is_htmx(request):
            return go_to(request, f"/chats/{key}")
        return page.page("_sent.html", user, live=turn, key=key, **chats.composer())

    @router.post("/chats/{key}/resume")
    async def resume(request: Request, key: str) -> Response:
        user, session = page.user(request), session_name(key)
        await chats.check_free(user, session)
        chats.resume(user, session, None)
        return go_to(request, f"/chats/{key}")

    @router.post("/chats/{key}/decide")
    async def decide(request: Request, key: str) -> Response:
        user, session = page.user(request), session_name(key)
        form = await request.form()
        await chats.check_free(user, session)
        waiting = page.agent(user).waiting(session)
        captions = waiting.captions if waiting is not None else ()
        texts = {each.call_id: str(form.get(f"caption-{place}", "")).strip() for place, each in enumerate(captions)}
        is_refused = form.get("verdict") == "refuse"
        edits = {
            each.call_id: {"prompt": texts[each.call_id]} for each in captions if texts[each.call_id] != each.prompt
        }
        skipped = {each.call_id for place, each in enumerate(captions) if form.get(f"skip-{place}")}
        skipped |= {call_id for call_id, text in texts.items() if not text}
        reason = str(form.get("reason", ""))[:1000]
        decision = Decision.model_validate(
            {
                "kind": "refuse" if is_refused else "edit",
                "edits": {} if is_refused else {name: edit for name, edit in edits.items() if name not in skipped},
                "refused": () if is_refused else tuple(skipped),
                "reason": reason,
            }
        )
        chats.resume(user, session, decision)
        return go_to(request, f"/chats/{key}")


def _add_changes(router: APIRouter, page: PageState, chats: ChatActions) -> None:
    @router.post("/chats/{key}/stop")
    async def stop(request: Request, key: str) -> Response:
        live = chats.running_turn(page.user(request), session_name(key))
        if live is not None:
            live.stop()
        return Response(status_code=204) if is_htmx(request) else go_to(request, f"/chats/{key}")

    @router.post("/chats/{key}/skip")
    async def skip(request: Request, key: str) -> Response:
        live = chats.running_turn(page.user(request), session_name(key))
        if live is not None:
            live.skip_drawing()
        return Response(status_code=204) if is_htmx(request) else go_to(request, f"/chats/{key}")

    @router.post("/chats/{key}/undo")
    async def undo(request: Request, key: str) -> Response:
        user, session = page.user(request), session_name(key)
        await chats.check_free(user, session)
        chats.undo(user, session)
        summary = page.sessions(user).summary(session)
        return go_to(request, f"/chats/{key}" if summary.num_turns else "/")

    @router.post("/chats/{key}/fork")
    async def fork(request: Request, key: str, turn: Annotated[int, Form()]) -> Response:
        name = chats.fork(page.user(request), session_name(key), turn)
        return go_to(request, f"/chats/{session_key(name)}")

    @router.post("/chats/{key}/delete")
    async def delete(request: Request, key: str) -> Response:
        user, session = page.user(request), session_name(key)
        await chats.check_free(user, session)
        with page.sessions(user).hold(session):
            page.sessions(user).delete(session)
        page.turns.remove((user.namespace, session))
        return go_to(request, "/chats")
