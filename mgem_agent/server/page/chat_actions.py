"""What the routes of the chat do: begin turns in the background, and collect what a page shows of a chat."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from mgem_agent.agent.agent_settings import known_draw_mode
from mgem_agent.agent.decision import Decision
from mgem_agent.agent.events import AgentEvent
from mgem_agent.errors import InputError
from mgem_agent.server.page.chat_view import read_chat
from mgem_agent.server.page.live_turn import THINKING, LiveTurn
from mgem_agent.server.page.page_state import PageState
from mgem_agent.server.page.session_key import session_key
from mgem_agent.server.security import User
from mgem_agent.sessions.sessions import new_session_name
from mgem_agent.tools.image_request import ImageRequest

__all__ = ["DIRECT", "ChatActions", "ChatOptions"]

MAX_TITLE_CHARS = 80
NUM_RECENT = 20
BUSY = "This chat is answering already. Wait for the answer, or stop it."
DIRECT = "direct"
"""Mode of a message whose words are drawn unchanged, without asking the model."""


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How a message is answered.

    Attributes:
        mode: When to draw, or `DIRECT`; empty for the server's setting.
        generator: Name of the generator; empty for the default.
        confirm: Whether captions wait for a decision.
    """

    mode: str = ""
    generator: str = ""
    confirm: bool = False


class ChatActions:
    """Begins turns, and collects what a page shows.

    Args:
        page: The state of the page.
    """

    def __init__(self, page: PageState) -> None:
        self.page = page

    def live(self, user: User, session: str) -> LiveTurn | None:
        """Return the turn that runs, or the last one if it failed."""
        return self.page.turns.get((user.namespace, session))

    def running_turn(self, user: User, session: str) -> LiveTurn | None:
        """Return the turn that runs."""
        return self.page.turns.running((user.namespace, session))

    async def check_free(self, user: User, session: str) -> None:
        """Refuse a second turn while one runs. The end of a turn that is saved is waited for.

        Raises:
            InputError: If one runs.
        """
        if await self.page.turns.running_long((user.namespace, session)) is not None:
            raise InputError(BUSY)

    def say(self, user: User, session: str, text: str, picture_ids: Sequence[str], options: ChatOptions) -> LiveTurn:
        """Begin a turn with a message.

        Raises:
            InputError: If the chat is busy, the message is empty, or the last turn is unfinished.
        """
        self._check_free(user, session)
        if not text.strip() and not picture_ids:
            raise InputError("The message is empty. Write something, or add a picture.")
        agent = self.page.agent(user, generator=options.generator, confirm=options.confirm)
        if agent.sessions.open_turn(session) is not None:
            raise InputError("The last turn is unfinished. Continue it or drop it first.")
        prompt = text if options.mode == DIRECT else ""
        num_before = len(agent.sessions.turns(session))
        turn = LiveTurn(agent, session, text=text, picture_ids=picture_ids, prompt=prompt, num_before=num_before)
        if options.mode != DIRECT:
            draw = known_draw_mode(options.mode) if options.mode else None
            self._begin(user, turn, lambda: agent.stream(text, picture_ids, session=session, draw=draw), title=text)
            return turn
        if picture_ids:
            raise InputError("Words that are drawn unchanged take no pictures. Remove them, or choose another mode.")
        requests = [ImageRequest(prompt=text)]
        self._begin(user, turn, lambda: agent.stream_drawing(requests, session=session), title=text)
        return turn

    def resume(self, user: User, session: str, decision: Decision | None) -> LiveTurn:
        """Continue an unfinished turn.

        Raises:
            InputError: If the chat is busy.
        """
        self._check_free(user, session)
        agent = self.page.agent(user)
        turn = LiveTurn(agent, session, num_before=len(agent.sessions.turns(session)))
        self._begin(user, turn, lambda: agent.stream_resume(session, decision), title="Continue")
        return turn

    def undo(self, user: User, session: str) -> None:
        """Drop the unfinished turn, or the last one.

        Raises:
            InputError: If the chat is busy or empty.
        """
        self._check_free(user, session)
        self.page.agent(user).undo(session)
        self.page.turns.remove((user.namespace, session))

    def fork(self, user: User, session: str, num_turns: int) -> str:
        """Copy the first turns of a session to a new one, and return its name.

        Raises:
            InputError: If there is no such session, or it has fewer turns.
        """
        agent = self.page.agent(user)
        known = len(agent.sessions.turns(session))
        if not 1 <= num_turns <= known:
            raise InputError(f"This chat has {known} finished turn(s), so it cannot be copied up to turn {num_turns}.")
        name = new_session_name("chat")
        agent.fork(session, name)
        for _ in range(known - num_turns):
            agent.undo(name)
        return name

    def view(self, user: User, session: str) -> dict[str, Any]:
        """Return the variables of a chat's templates."""
        live = self.live(user, session)
        is_running = live is not None and not live.is_over
        chat = read_chat(self.page.agent(user), session)
        if live is not None and len(chat.turns) > live.num_before:
            is_running = False  # it is saved, and is about to end
        error = live.error if live is not None and live.is_over else ""
        unsent = live if error and chat.state == "ready" else None
        composer = self.composer(
            text=unsent.text if unsent else "", picture_ids=unsent.picture_ids if unsent is not None else ()
        )
        return {
            "chat": chat,
            "key": session_key(session),
            "live": live if is_running else None,
            "error": error,
            **self.recent(user),
            **composer,
        }

    def recent(self, user: User) -> dict[str, Any]:
        """Return the variables of the list of chats."""
        return {"recent": self.page.sessions(user).list()[:NUM_RECENT], "running": self.running(user)}

    def running(self, user: User) -> set[str]:
        """Return the names of the sessions that are answering."""
        keys = self.page.turns.keys()
        return {str(key[1]) for key in keys if isinstance(key, tuple) and key[0] == user.namespace}

    def composer(self, *, text: str = "", picture_ids: Sequence[str] = ()) -> dict[str, Any]:
        """Return the variables of the form for a message.

        Args:
            text: The text in it.
            picture_ids: Ids of the pictures in it.
        """
        service = self.page.service
        return {
            "generators": service.generators.names,
            "confirm": service.config.confirm,
            "text": text,
            "picture_ids": tuple(picture_ids),
        }

    def _check_free(self, user: User, session: str) -> None:
        """Refuse a second turn; nothing is awaited between this check and the start of the turn."""
        if self.running_turn(user, session) is not None:
            raise InputError(BUSY)

    def _begin(
        self, user: User, turn: LiveTurn, start: Callable[[], Generator[AgentEvent, None, None]], *, title: str
    ) -> None:
        """Run a turn in the background, as a job of the server's queue."""
        agent, session = turn.agent, turn.session

        begun = turn.noticing_begin(start, THINKING)

        def events() -> AsyncGenerator[AgentEvent, None]:
            return self.page.service.jobs.stream(
                user, "chat", begun, abandon=lambda: agent.cancel(session), title=title[:MAX_TITLE_CHARS]
            )

        self.page.turns.put((user.namespace, session), turn)
        turn.start(events)
