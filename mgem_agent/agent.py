"""The agent: any reasoner and any image generator, as one thing that sees, reasons and draws over many turns.

Every way of running a turn is one generator of events; `invoke` is its last event, and the async twins run it in a
thread. A turn that is cut off, by a kill as by an error, is resumed or undone, and nothing that is stored is drawn
twice.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast, get_args

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from mgem_agent.agent_decision import Decision, apply_decision, read_decision
from mgem_agent.agent_events import (
    AgentEvent,
    CaptionReady,
    ConfirmationNeeded,
    DrawnPicture,
    FailedDrawing,
    Turn,
    TurnFinished,
)
from mgem_agent.agent_graph import AgentGraph, AgentSettings, TurnContext
from mgem_agent.agent_messages import from_records, to_record, user_message
from mgem_agent.agent_reasoning import speaks_protocol
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.draw_calls import DrawMode, check_draw_defaults
from mgem_agent.errors import InputError
from mgem_agent.event_thread import in_thread
from mgem_agent.sessions import Sessions
from mgem_agent.tools.image_generator import ImageGenerator

__all__ = ["MgemAgent"]

Events = Generator[AgentEvent, None, None]
DEFAULT_SESSION = "default"


class MgemAgent:
    """Sees, reasons and draws.

    One agent may run turns of several sessions at once, from several threads; of one session, one turn at a time.

    Args:
        reasoner: Any LangChain chat model. One that speaks the `<GEN>` protocol makes calls of its captions; any other
            is given the tool `generate_image`.
        generator: What draws.
        store: Where pictures are kept; `ArtifactStore()` if not given.
        sessions: Where dialogues are kept; `Sessions.at()`, SQLite in the user's folder, if not given.
        draw: When to draw: `auto`, when the reasoner asks for it; `always`, in every turn; `never`.
        confirm: Whether a person decides before anything is drawn; see `resume`.
        look: How often at most a picture that does not follow its caption is drawn again; 0 for no look at it.
        max_pictures: Pictures that a turn draws at most, second attempts included.
        max_rounds: Answers of the reasoner that a turn has at most.
        timeout_s: Seconds that a turn takes at most, without the time that it waits for a person; None for no limit.
            Drawing is stopped at the limit; an answer at its next piece of text.
        defaults: Fields of every image request where the reasoner leaves them open, such as `width` or `seed`.
        system_prompt: What the reasoner is told at first.
        max_context_pictures: Latest pictures of the dialogue that the reasoner is shown; older ones are named by id.
        max_history_turns: Latest turns that the reasoner is told; all are kept.
        answer_tools: Whether the reasoner goes on when it has been told what became of its calls; if not given, only
            one that does not speak the protocol does.

    Raises:
        InputError: If an argument is out of its range.

    Example:
        >>> from mgem_agent import MgemAgent
        >>> from mgem_agent.sessions import Sessions
        >>> from mgem_agent.testing import FlatColourGenerator
        >>> agent = MgemAgent(reasoner, FlatColourGenerator(), sessions=Sessions.in_memory())  # doctest: +SKIP
        >>> agent.invoke("Draw a red fox.").pictures[0].path  # doctest: +SKIP
    """

    def __init__(
        self,
        reasoner: BaseChatModel,
        generator: ImageGenerator,
        *,
        store: ArtifactStore | None = None,
        sessions: Sessions | None = None,
        draw: DrawMode = "auto",
        confirm: bool = False,
        look: int = 0,
        max_pictures: int = 8,
        max_rounds: int = 4,
        timeout_s: float | None = None,
        defaults: Mapping[str, Any] | None = None,
        system_prompt: str | None = None,
        max_context_pictures: int = 4,
        max_history_turns: int = 50,
        answer_tools: bool | None = None,
    ) -> None:
        check_draw_defaults(defaults or {})
        self._settings = AgentSettings(
            draw=_known_mode(draw),
            confirm=confirm,
            look=_at_least("look", look, 0),
            max_pictures=_at_least("max_pictures", max_pictures, 1),
            max_rounds=_at_least("max_rounds", max_rounds, 1),
            timeout_s=timeout_s if timeout_s is None else _above_zero("timeout_s", timeout_s),
            defaults=dict(defaults or {}),
            system_prompt=system_prompt,
            max_context_pictures=_at_least("max_context_pictures", max_context_pictures, 0),
            max_history_turns=_at_least("max_history_turns", max_history_turns, 0),
            answer_tools=not speaks_protocol(reasoner) if answer_tools is None else answer_tools,
        )
        if look and (reasoner.profile or {}).get("image_inputs") is False:
            raise InputError(
                f"look={look} needs a reasoner that sees, and {type(reasoner).__name__!r} says that it takes no "
                f"pictures. Take look=0, or another reasoner."
            )
        self.store = store if store is not None else ArtifactStore()
        self.sessions = sessions if sessions is not None else Sessions.at()
        self._graph = AgentGraph(reasoner, generator, self.store, self.sessions, self._settings).compile()
        self._running: dict[str, TurnContext] = {}

    def stream(
        self, text: str, images: Iterable[Any] = (), *, session: str = DEFAULT_SESSION, draw: DrawMode | None = None
    ) -> Events:
        """Run a turn, yielding what happens as it happens.

        A stream that is closed before its end leaves the turn unfinished.

        Args:
            text: What the user says.
            images: Pictures that the user shows: paths, bytes, data URLs, PIL images, image blocks, or ids of stored
                ones.
            session: The dialogue that this is a turn of; begun if there is none of that name.
            draw: When to draw, for this turn alone.

        Yields:
            Events, the last a `TurnFinished`, or a `ConfirmationNeeded`.

        Raises:
            InputError: If the message is empty, a picture cannot be read, or the session has an unfinished turn or is
                in use by somebody else.
        """
        mode = self._settings.draw if draw is None else _known_mode(draw)
        with self.sessions.hold(session):
            turn = uuid.uuid4().hex
            message = user_message(text, images, self.store, message_id=f"user-{turn}")
            state = {
                "session": session,
                "turn": turn,
                "draw": mode,
                "messages": [to_record(message)],
                "calls": [],
                "results": [],
                "pictures": [],
                "failures": [],
                "num_rounds": 0,
                "num_drawn": 0,
                "seconds": 0.0,
                "outcome": None,
            }
            self.sessions.begin(session, state, title=" ".join(text.split()))
            yield from self._drive(session, turn, state, spent_s=0.0)

    def stream_resume(self, session: str = DEFAULT_SESSION, decision: Decision | str | None = None) -> Events:
        """Go on with an unfinished turn, yielding what happens as it happens.

        Args:
            session: Its session.
            decision: Where captions wait: `approve`, `refuse`, or a `Decision` that edits them. None for a turn that
                was cut off.

        Yields:
            As `stream`. Pictures that are stored already come as events once more, and are not drawn again.

        Raises:
            InputError: If no turn is unfinished, a decision is missing, not wanted or impossible, or the session is in
                use by somebody else.
        """
        with self.sessions.hold(session):
            begun = self.sessions.open_turn(session)
            if begun is None:
                raise InputError(f"Session {session!r} has no unfinished turn. Begin one with invoke or stream.")
            state = self._graph.get_state(_thread(begun["turn"]))
            given: Any = None if state.values else begun
            if state.interrupts:
                if decision is None:
                    raise InputError(
                        f"Session {session!r} waits for a decision on {len(state.values['calls'])} caption(s). Resume "
                        f"with 'approve', 'refuse' or a Decision with edits."
                    )
                chosen = read_decision(decision)
                apply_decision(state.values["calls"], chosen)  # what is impossible is refused before anything runs
                given = Command(resume=chosen.model_dump(mode="json"))
            elif decision is not None:
                raise InputError(f"Nothing in session {session!r} waits for a decision. Resume it without one.")
            if state.values and not state.next:
                yield self._finish(session, state.values)
                return
            yield from self._drive(session, begun["turn"], given, spent_s=state.values.get("seconds", 0.0))

    def invoke(
        self, text: str, images: Iterable[Any] = (), *, session: str = DEFAULT_SESSION, draw: DrawMode | None = None
    ) -> Turn:
        """Run a turn; arguments and errors as for `stream`."""
        return self._last(session, self.stream(text, images, session=session, draw=draw))

    def resume(self, session: str = DEFAULT_SESSION, decision: Decision | str | None = None) -> Turn:
        """Go on with an unfinished turn; arguments and errors as for `stream_resume`."""
        return self._last(session, self.stream_resume(session, decision))

    def astream(
        self, text: str, images: Iterable[Any] = (), *, session: str = DEFAULT_SESSION, draw: DrawMode | None = None
    ) -> AsyncIterator[AgentEvent]:
        """Run a turn without blocking the event loop; arguments, events and errors as for `stream`."""
        return self._in_thread(session, lambda: self.stream(text, images, session=session, draw=draw))

    def astream_resume(
        self, session: str = DEFAULT_SESSION, decision: Decision | str | None = None
    ) -> AsyncIterator[AgentEvent]:
        """Go on with an unfinished turn without blocking the event loop; otherwise as `stream_resume`."""
        return self._in_thread(session, lambda: self.stream_resume(session, decision))

    async def ainvoke(
        self, text: str, images: Iterable[Any] = (), *, session: str = DEFAULT_SESSION, draw: DrawMode | None = None
    ) -> Turn:
        """Run a turn without blocking the event loop; arguments and errors as for `stream`."""
        return self._turn(session, [event async for event in self.astream(text, images, session=session, draw=draw)])

    async def aresume(self, session: str = DEFAULT_SESSION, decision: Decision | str | None = None) -> Turn:
        """Go on with an unfinished turn without blocking the event loop; otherwise as `resume`."""
        return self._turn(session, [event async for event in self.astream_resume(session, decision)])

    def cancel(self, session: str = DEFAULT_SESSION) -> bool:
        """Stop the turn that is running, from another thread or a signal handler; what is drawn by then stays.

        Args:
            session: Its session.

        Returns:
            Whether one was running.
        """
        context = self._running.get(session)
        if context is not None:
            context.stop("cancelled")
        return context is not None

    def undo(self, session: str = DEFAULT_SESSION) -> None:
        """Drop the unfinished turn or, where there is none, the last one; its pictures stay in the store.

        Raises:
            InputError: If there is no such session or nothing in it, or it is in use.
        """
        with self.sessions.hold(session):
            self.sessions.undo(session)

    def fork(self, session: str, name: str) -> None:
        """Begin a session with the finished turns of another; each goes its own way from there.

        Raises:
            InputError: If there is no such session, the new name is taken, or either is in use.
        """
        with self.sessions.hold(name):
            self.sessions.fork(session, name)

    def messages(self, session: str = DEFAULT_SESSION) -> list[BaseMessage]:
        """Return all messages of a session's finished turns, with pictures as blocks that hold their ids."""
        return [message for record in self.sessions.turns(session) for message in from_records(record["messages"])]

    def turns(self, session: str = DEFAULT_SESSION) -> list[Turn]:
        """Return the finished turns of a session, oldest first."""
        return [self._read_turn(session, record | {"turn": record["id"]}) for record in self.sessions.turns(session)]

    def _drive(self, session: str, turn: str, given: Any, *, spent_s: float) -> Events:
        """Run the graph to its end or to an interrupt."""
        limit = self._settings.max_history_turns
        records = self.sessions.turns(session, limit=limit) if limit else []
        context = TurnContext([message for record in records for message in from_records(record["messages"])])
        timer = self._timer(context, spent_s)
        self._running[session] = context
        events = self._graph.stream(given, _thread(turn), context=context, stream_mode="custom", durability="sync")
        try:
            for event in events:
                yield cast(AgentEvent, event)
        except BaseException:
            context.abandon()
            raise
        finally:
            cast(Events, events).close()  # waits for the step under way
            timer.cancel()
            del self._running[session]
        state = self._graph.get_state(_thread(turn))
        if state.interrupts:
            waiting = tuple(CaptionReady(call["call_id"], call["request"]) for call in state.values["calls"])
            yield ConfirmationNeeded(session, waiting)
        else:
            yield self._finish(session, state.values)

    def _timer(self, context: TurnContext, spent_s: float) -> threading.Timer:
        limit = self._settings.timeout_s
        timer = threading.Timer(max((limit or 0.0) - spent_s, 0.0), context.stop, ["timeout"])
        timer.daemon = True
        if limit is not None:
            timer.start()
        return timer

    def _finish(self, session: str, state: Mapping[str, Any]) -> TurnFinished:
        kept = {name: state[name] for name in ("messages", "pictures", "failures", "outcome")}
        self.sessions.finish(session, kept | {"id": state["turn"], "created": datetime.now(UTC).isoformat()})
        return TurnFinished(self._read_turn(session, state))

    def _read_turn(self, session: str, state: Mapping[str, Any]) -> Turn:
        said = [str(message.text) for message in from_records(state["messages"]) if isinstance(message, AIMessage)]
        return Turn(
            session=session,
            id=state["turn"],
            text="\n\n".join(text.strip() for text in said if text.strip()),
            pictures=tuple(
                DrawnPicture(each["call_id"], each["artifact"], self._path(each["artifact"]), each["prompt"])
                for each in state["pictures"]
            ),
            failures=tuple(FailedDrawing(**each) for each in state["failures"]),
            outcome=state["outcome"] or "answered",
        )

    def _path(self, artifact_id: str) -> str:
        """Where a picture lies; where it lay, if somebody has deleted it."""
        with suppress(InputError):
            return str(self.store.path(artifact_id))
        return ""

    def _last(self, session: str, events: Events) -> Turn:
        return self._turn(session, list(events))

    def _turn(self, session: str, events: list[AgentEvent]) -> Turn:
        last = events[-1]
        if isinstance(last, TurnFinished):
            return last.turn
        begun = self.sessions.open_turn(session)
        turn = begun["turn"] if begun else ""
        values = self._graph.get_state(_thread(turn)).values
        waiting = last.captions if isinstance(last, ConfirmationNeeded) else ()
        done = self._read_turn(session, values)
        return Turn(session, turn, done.text, done.pictures, done.failures, "confirmation_needed", waiting)

    def _in_thread(self, session: str, start: Callable[[], Events]) -> AsyncIterator[AgentEvent]:
        def abandon() -> None:
            context = self._running.get(session)
            if context is not None:
                context.abandon()

        return in_thread(start, abandon)


def _thread(turn: str) -> RunnableConfig:
    return {"configurable": {"thread_id": turn}, "recursion_limit": 10_000}


def _known_mode(draw: str) -> DrawMode:
    for mode in get_args(DrawMode):
        if draw == mode:
            known: DrawMode = mode
            return known
    raise InputError(f"There is no draw mode {draw!r}. Allowed: {', '.join(map(repr, get_args(DrawMode)))}.")


def _at_least(name: str, value: int, least: int) -> int:
    if value < least:
        raise InputError(f"{name}={value} is too small. Give {least} or more.")
    return value


def _above_zero(name: str, value: float) -> float:
    if not value > 0:
        raise InputError(f"{name}={value} is no time to work in. Give seconds above 0, or None for no limit.")
    return value
