"""The agent: combines any reasoner with any image generator to see, reason and draw over many turns.

A turn is a generator of events. `invoke` returns the result in the last event, and the async methods run the generator
in a thread. A turn that was interrupted, by an error or a kill, can be resumed or undone, and stored pictures are not
drawn again.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command

from mgem_agent.agent.agent_settings import AgentSettings, known_draw_mode
from mgem_agent.agent.decision import Decision, apply_decision, read_decision
from mgem_agent.agent.drawing import read_request
from mgem_agent.agent.events import AgentEvent, ConfirmationNeeded, Turn
from mgem_agent.agent.graph import AgentGraph
from mgem_agent.agent.messages import from_records, user_message
from mgem_agent.agent.named_parts import generator_of, reasoner_of
from mgem_agent.agent.reasoning import speaks_protocol
from mgem_agent.agent.turn_context import TurnContext
from mgem_agent.agent.turn_runner import Events, TurnRunner, confirmation
from mgem_agent.agent.turn_state import TurnState, begin_drawing, begin_turn, read_turn
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.gen.tool_calls import DrawMode, check_draw_defaults
from mgem_agent.sessions.sessions import Sessions, new_session_name
from mgem_agent.tools.budget import Budget, Budgets, Cost, Meter
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.look import Look
from mgem_agent.tools.prices import Prices

__all__ = ["MgemAgent"]


class MgemAgent:
    """An agent that sees, reasons and draws.

    One agent may run turns of several sessions at once, from several threads. In one session, one turn runs at a time.

    Args:
        reasoner: Any LangChain chat model, or a name for `make_reasoner`, such as `nano`. A model that uses the `<GEN>`
            protocol makes calls from its captions; any other model gets the tool `generate_image`.
        generator: The image generator, or a name for `make_generator`, such as `nano`.
        store: The picture store; `ArtifactStore()` if not given.
        sessions: The session storage; `Sessions.at()`, SQLite in the user's folder, if not given.
        session: Session of calls that name none, also available as the attribute `session`; a new one for each agent if
            not given.
        draw: When to draw: `auto`, when the reasoner decides to; `always`, in every turn; `never`.
        confirm: Whether the user decides before anything is drawn; see `resume`.
        look: What follows if a picture does not match its caption: a maximum number of redraws, a strategy such as
            `retry`, `revise-3@0.8`, `edit` or `best-of-4`, or a `Look`; 0 to not judge pictures.
        max_pictures: Maximum number of pictures in a turn, including redraws.
        max_rounds: Maximum number of the reasoner's answers in a turn.
        timeout_s: Time limit of a turn in seconds, without the time spent waiting for the user; None for no limit.
            At the limit, drawing stops, and an answer stops at its next piece of text.
        defaults: Default values of image requests, such as `width` or `seed`.
        system_prompt: System prompt for the reasoner.
        max_context_pictures: Maximum number of pictures sent to the reasoner; older pictures are named by id.
        max_history_turns: Maximum number of earlier turns sent to the reasoner; all turns are saved.
        max_context_tokens: Maximum tokens of a request to the reasoner, including the answer; None for the size of its
            context.
        sees: Whether the reasoner accepts pictures; None to find out from its profile or its first error.
        answer_tools: Whether the reasoner is called again with the results of its tool calls; if not given, only a
            model that does not use the protocol is.
        num_previews: Number of previews of each unfinished picture, in `DrawingProgress`, if the generator has the
            capability `previews`.
        budget: Limits of each turn and session: text such as `0.50usd,20pictures,10min` (of a turn) and `2usd/session`,
            a `Budget` of a turn, or `Budgets`. A call that would pass a limit is refused before it is made.
        prices: Prices of generators and reasoners by name; see `Prices`.
        meter: A meter that counts the same calls for a larger scope, such as a book.

    Raises:
        InputError: If an argument is out of range, or a name is unknown.

    Examples:
        >>> from mgem_agent import MgemAgent
        >>> from mgem_agent.sessions.sessions import Sessions
        >>> from mgem_agent.testing import FlatColourGenerator
        >>> agent = MgemAgent(reasoner, FlatColourGenerator(), sessions=Sessions.in_memory())  # doctest: +SKIP
        >>> agent.invoke("Draw a red fox.").pictures[0].path  # doctest: +SKIP
    """

    def __init__(
        self,
        reasoner: BaseChatModel | str,
        generator: ImageGenerator | str,
        *,
        store: ArtifactStore | None = None,
        sessions: Sessions | None = None,
        session: str | None = None,
        draw: DrawMode = "auto",
        confirm: bool = False,
        look: Look | int | str = 0,
        max_pictures: int = 8,
        max_rounds: int = 4,
        timeout_s: float | None = None,
        defaults: Mapping[str, Any] | None = None,
        system_prompt: str | None = None,
        max_context_pictures: int = 4,
        max_history_turns: int = 50,
        max_context_tokens: int | None = None,
        sees: bool | None = None,
        answer_tools: bool | None = None,
        num_previews: int = 0,
        budget: Budgets | Budget | str | None = None,
        prices: Prices | Mapping[str, Any] | None = None,
        meter: Meter | None = None,
    ) -> None:
        reasoner, generator = reasoner_of(reasoner), generator_of(generator)
        check_draw_defaults(defaults or {})
        looks = Look.parse(look)
        self._settings = AgentSettings(
            draw=draw,
            confirm=confirm,
            look=looks,
            max_pictures=max_pictures,
            max_rounds=max_rounds,
            timeout_s=timeout_s,
            defaults=dict(defaults or {}),
            system_prompt=system_prompt,
            max_context_pictures=max_context_pictures,
            max_history_turns=max_history_turns,
            answer_tools=not speaks_protocol(reasoner) if answer_tools is None else answer_tools,
            sees=sees,
            max_context_tokens=max_context_tokens,
            num_previews=num_previews,
            budgets=Budgets.parse(budget),
            prices=_prices(prices, meter),
            meter=meter,
        )
        if looks and (sees is False or (sees is None and (reasoner.profile or {}).get("image_inputs") is False)):
            raise InputError(
                f"look={looks} needs a reasoner that takes pictures, and {type(reasoner).__name__!r} takes none. "
                f"Use look=0, or another reasoner."
            )
        self.session = new_session_name("agent") if session is None else session
        self.store = store if store is not None else ArtifactStore()
        self.sessions = sessions if sessions is not None else Sessions.at()
        self._graph = AgentGraph(reasoner, generator, self.store, self.sessions, self._settings).compile()
        self._runner = TurnRunner(self._graph, self.store, self.sessions, self._settings)

    @property
    def graph(self) -> CompiledStateGraph[TurnState, TurnContext, TurnState, TurnState]:
        """The compiled LangGraph graph of a turn, to visualize it or to read the history of its states."""
        return self._graph

    def stream(
        self, text: str, images: Iterable[Any] = (), *, session: str | None = None, draw: DrawMode | None = None
    ) -> Events:
        """Run a turn and yield its events as they happen.

        If the stream is closed early, the turn stays unfinished.

        Args:
            text: The user's text.
            images: The user's pictures: paths, bytes, data URLs, PIL images, image blocks, or ids of stored pictures.
            session: Name of the session, created if it does not exist; `self.session` if None.
            draw: When to draw, for this turn only.

        Yields:
            Events; the last is a `TurnFinished` or a `ConfirmationNeeded`.

        Raises:
            InputError: If the message is empty, a picture cannot be read, or the session has an unfinished turn or is
                in use elsewhere.
        """
        return self._said(text, images, self._named(session), draw, is_watched=True)

    def _said(
        self, text: str, images: Iterable[Any], session: str, draw: DrawMode | None, *, is_watched: bool
    ) -> Events:
        mode = self._settings.draw if draw is None else known_draw_mode(draw)
        with self.sessions.hold(session):
            turn = uuid.uuid4().hex
            message = user_message(text, images, self.store, message_id=f"user-{turn}")
            state = begin_turn(session, turn, message, mode)
            yield from self._begin(session, state, title=text, is_watched=is_watched)

    def stream_drawing(self, requests: Sequence[ImageRequest], text: str = "", *, session: str | None = None) -> Events:
        """Draw the given requests without calling the reasoner. The turn becomes part of the dialogue.

        The pictures are neither confirmed nor judged. Otherwise this is a normal turn, which can be cancelled, resumed
        and undone.

        Args:
            requests: Image requests; fields that are not set get the agent's defaults.
            text: The user's text; the first prompt if empty.
            session: As for `stream`.

        Yields:
            Events as for `stream`.

        Raises:
            InputError: If there are no requests or too many, or as for `stream`.
        """
        most = self._settings.max_pictures
        if not 1 <= len(requests) <= most:
            raise InputError(f"{len(requests)} pictures cannot be drawn in one turn. Request 1 to {most}.")
        asked = [read_request(each.model_dump(exclude_unset=True), self._settings.defaults) for each in requests]
        text = text.strip() or asked[0].prompt
        session = self._named(session)
        with self.sessions.hold(session):
            turn = uuid.uuid4().hex
            message = user_message(text, (), self.store, message_id=f"user-{turn}")
            state = begin_drawing(session, turn, message, [each.model_dump(mode="json") for each in asked])
            yield from self._begin(session, state, title=text)

    def stream_resume(self, session: str | None = None, decision: Decision | str | None = None) -> Events:
        """Continue an unfinished turn and yield its events as they happen.

        Args:
            session: Name of the session.
            decision: If captions wait: `approve`, `refuse`, or a `Decision` with edits. None for an interrupted turn.

        Yields:
            Events as for `stream`. Pictures that are already stored are reported again, but not drawn again.

        Raises:
            InputError: If there is no unfinished turn, the decision is missing, not needed or not valid, or the session
                is in use elsewhere.
        """
        return self._resumed(self._named(session), decision)

    def end_turn(self, session: str | None = None, *, said: str = "") -> Turn:
        """End an unfinished turn with what it has: nothing more is asked or drawn, and its pictures are kept.

        Args:
            session: Name of the session.
            said: Text of the answer that was interrupted, if it was shown to the user.

        Raises:
            InputError: If there is no unfinished turn, or the session is in use elsewhere.
        """
        name = self._named(session)
        decision = "refuse" if self.waiting(name) is not None else None
        return self._runner.result(name, self._resumed(name, decision, said=said))

    def _resumed(self, session: str, decision: Decision | str | None, *, said: str | None = None) -> Events:
        with self.sessions.hold(session):
            begun = self.sessions.open_turn(session)
            if begun is None:
                raise InputError(
                    f"Session {session!r} has no unfinished turn. Start one with invoke or stream, or name another "
                    "session."
                )
            state = self._runner.state(begun["turn"])
            # A turn with a checkpoint gets no input: LangGraph continues from its pending writes.
            given: Any = None if state.metadata is not None else begun
            if state.interrupts:
                if decision is None:
                    raise InputError(
                        f"Session {session!r} waits for a decision on {len(state.values['calls'])} caption(s). Resume "
                        f"with 'approve', 'refuse' or a Decision with edits."
                    )
                chosen = read_decision(decision)
                apply_decision(
                    state.values["calls"], chosen
                )  # raises before anything runs if the decision is not valid
                given = Command(resume=chosen.model_dump(mode="json"))
            elif decision is not None:
                raise InputError(f"Session {session!r} does not wait for a decision. Resume it without one.")
            # Use `tasks`: `next` omits nodes with pending writes, which remain after a kill.
            if state.metadata is not None and not state.tasks:
                yield self._runner.finish(session, state.values)
                return
            values = state.values
            yield from self._runner.run(
                session,
                begun["turn"],
                given,
                spent_s=values.get("seconds", 0.0),
                spent=Cost.read(values.get("cost")),
                is_resumed=True,
                said=said,
            )

    def invoke(
        self, text: str, images: Iterable[Any] = (), *, session: str | None = None, draw: DrawMode | None = None
    ) -> Turn:
        """Run a turn; arguments and errors as for `stream`."""
        name = self._named(session)
        return self._runner.result(name, self._said(text, images, name, draw, is_watched=False))

    def resume(self, session: str | None = None, decision: Decision | str | None = None) -> Turn:
        """Continue an unfinished turn; arguments and errors as for `stream_resume`."""
        return self._runner.result(self._named(session), self.stream_resume(session, decision))

    def astream(
        self, text: str, images: Iterable[Any] = (), *, session: str | None = None, draw: DrawMode | None = None
    ) -> AsyncIterator[AgentEvent]:
        """Run a turn without blocking the event loop; arguments, events and errors as for `stream`."""
        return self._runner.in_thread(
            self._named(session), lambda: self.stream(text, images, session=session, draw=draw)
        )

    def astream_resume(
        self, session: str | None = None, decision: Decision | str | None = None
    ) -> AsyncIterator[AgentEvent]:
        """Continue an unfinished turn without blocking the event loop; otherwise like `stream_resume`."""
        return self._runner.in_thread(self._named(session), lambda: self.stream_resume(session, decision))

    async def ainvoke(
        self, text: str, images: Iterable[Any] = (), *, session: str | None = None, draw: DrawMode | None = None
    ) -> Turn:
        """Run a turn without blocking the event loop; arguments and errors as for `stream`."""
        events = [event async for event in self.astream(text, images, session=session, draw=draw)]
        return self._runner.result(self._named(session), events)

    async def aresume(self, session: str | None = None, decision: Decision | str | None = None) -> Turn:
        """Continue an unfinished turn without blocking the event loop; otherwise like `resume`."""
        events = [event async for event in self.astream_resume(session, decision)]
        return self._runner.result(self._named(session), events)

    def cancel(self, session: str | None = None) -> bool:
        """Stop the running turn, from another thread or a signal handler. Finished pictures are kept.

        Args:
            session: Name of the session.

        Returns:
            Whether a turn was running.
        """
        context = self._runner.running(self._named(session))
        if context is not None:
            context.stop("cancelled")
        return context is not None

    def abandon(self, session: str | None = None) -> bool:
        """Stop the running turn, like `cancel`, and leave it unfinished, so that it can be resumed."""
        context = self._runner.running(self._named(session))
        if context is not None:
            context.abandon()
        return context is not None

    def cancel_drawing(self, session: str | None = None) -> bool:
        """Stop the current drawing, like `cancel`, and let the turn continue without these pictures.

        Args:
            session: Name of the session.

        Returns:
            Whether a drawing was running that was not already being stopped.
        """
        context = self._runner.running(self._named(session))
        return context is not None and context.stop_drawing()

    def waiting(self, session: str | None = None) -> ConfirmationNeeded | None:
        """Return the captions that wait for the user's decision, or None."""
        session = self._named(session)
        begun = self.sessions.open_turn(session)
        state = self._runner.state(begun["turn"]) if begun is not None else None
        return confirmation(session, state.values) if state is not None and state.interrupts else None

    def undo(self, session: str | None = None) -> None:
        """Drop the unfinished turn, or the last turn if there is none. Its pictures stay in the store.

        Raises:
            InputError: If the session does not exist, is empty, or is in use.
        """
        session = self._named(session)
        with self.sessions.hold(session):
            begun = self.sessions.open_turn(session)
            if begun is not None:
                self.sessions.charge(session, self._runner.state(begun["turn"]).values.get("cost", {}))
            self.sessions.undo(session)

    def fork(self, session: str, name: str) -> None:
        """Copy the finished turns of a session to a new session.

        Raises:
            InputError: If the session does not exist, the new name is taken, or either is in use.
        """
        with self.sessions.hold(name):
            self.sessions.fork(session, name)

    def messages(self, session: str | None = None) -> list[BaseMessage]:
        """Return all messages of a session's finished turns; pictures are blocks with ids."""
        records = self.sessions.turns(self._named(session))
        return [message for record in records for message in from_records(record["messages"])]

    def turns(self, session: str | None = None) -> list[Turn]:
        """Return the finished turns of a session, oldest first."""
        session = self._named(session)
        return [
            read_turn(session, record | {"turn": record["id"]}, self._runner.path_of)
            for record in self.sessions.turns(session)
        ]

    def _named(self, session: str | None) -> str:
        """Return the given session, or the default one."""
        return self.session if session is None else session

    def _begin(self, session: str, state: dict[str, Any], *, title: str, is_watched: bool = True) -> Events:
        self.sessions.begin(session, state, title=" ".join(title.split()))
        yield from self._runner.run(session, state["turn"], state, spent_s=0.0, is_watched=is_watched)


def _prices(prices: Prices | Mapping[str, Any] | None, meter: Meter | None) -> Prices:
    if isinstance(prices, Prices):
        return prices
    return Prices(prices) if prices is not None or meter is None else meter.prices
