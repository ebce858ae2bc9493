"""Runs a turn's graph in a session: its events, time limit and cancellation, and the storage of the finished turn."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import StateSnapshot

from mgem_agent.agent.agent_settings import AgentSettings
from mgem_agent.agent.async_bridge import in_thread
from mgem_agent.agent.events import AgentEvent, CaptionReady, ConfirmationNeeded, Turn, TurnFinished, TurnOutcome
from mgem_agent.agent.messages import from_records
from mgem_agent.agent.turn_context import TurnContext
from mgem_agent.agent.turn_state import TurnState, read_turn
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import BudgetExceededError, ContextOverflowError, InputError
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.tools.budget import Budgets, Cost, Meter

__all__ = ["Events", "TurnRunner", "confirmation"]

Events = Generator[AgentEvent, None, None]


class TurnRunner:
    """Runs turns, at most one at a time in each session.

    Args:
        graph: The compiled graph of a turn.
        store: The picture store.
        sessions: The session storage.
        settings: The agent's settings.
    """

    def __init__(
        self,
        graph: CompiledStateGraph[TurnState, TurnContext, TurnState, TurnState],
        store: ArtifactStore,
        sessions: Sessions,
        settings: AgentSettings,
    ) -> None:
        self._graph = graph
        self._store = store
        self._sessions = sessions
        self._settings = settings
        self._running: dict[str, TurnContext] = {}

    def running(self, session: str) -> TurnContext | None:
        """Return the context of the turn that runs in a session, or None."""
        return self._running.get(session)

    def state(self, turn: str) -> StateSnapshot:
        """Return the stored state of a turn."""
        return self._graph.get_state(_thread(turn))

    def run(
        self,
        session: str,
        turn: str,
        given: Any,
        *,
        spent_s: float,
        spent: Cost | None = None,
        is_watched: bool = True,
        is_resumed: bool = False,
        said: str | None = None,
    ) -> Events:
        """Run the graph to its end or to an interrupt.

        Args:
            session: Name of the session.
            turn: Id of the turn.
            given: Input of the graph: the initial state, a command, or None to continue.
            spent_s: Seconds of the turn's time limit that are already spent.
            spent: What the turn has cost before.
            is_watched: Whether to yield all events. Otherwise, which is faster, only the last is yielded.
            is_resumed: Whether the turn was interrupted before.
            said: Not None to end the turn: nothing more is asked or drawn. The text of its interrupted answer.
        """
        limit = self._settings.max_history_turns
        records = self._sessions.turns(session, limit=limit) if limit else []
        history = [message for record in records for message in from_records(record["messages"])]
        meter = self._meter(session, spent or Cost())
        context = TurnContext(history, meter, is_resumed=is_resumed, said=said or "")
        if said is not None:
            context.stop("cancelled")
        timer = self._timer(context, spent_s)
        self._running[session] = context
        is_too_long = False
        events = self._graph.stream(
            given,
            _thread(turn),
            context=context,
            stream_mode="custom" if is_watched else "updates",
            durability="sync",
        )
        try:
            for event in events:
                if is_watched:
                    yield cast(AgentEvent, event)
        except BaseException as error:
            context.abandon()
            is_too_long = isinstance(error, (BudgetExceededError, ContextOverflowError))
            raise
        finally:
            cast(Events, events).close()  # waits for the current step
            timer.cancel()
            del self._running[session]
            if is_too_long and not self._sessions.drawn(turn):
                self._sessions.undo(session)  # nothing was drawn, and the same request would fail again
        state = self.state(turn)
        if state.interrupts:
            yield confirmation(session, state.values)
        else:
            yield self.finish(session, state.values)

    def _timer(self, context: TurnContext, spent_s: float) -> threading.Timer:
        limit = self._settings.timeout_s
        ends: list[tuple[float, TurnOutcome]] = [] if limit is None else [(limit - spent_s, "timeout")]
        left = context.meter.seconds_left()
        if left is not None:
            ends.append((left, "budget"))
        end_s, why = min(ends, default=(0.0, "timeout"))
        timer = threading.Timer(max(end_s, 0.0), context.stop, [why])
        timer.daemon = True
        if ends:
            timer.start()
        return timer

    def _meter(self, session: str, spent: Cost) -> Meter:
        """Return the meter of a turn that has cost this much before."""
        settings = self._settings
        in_session = Cost.read(self._sessions.cost(session)) + spent if settings.budgets.session else Cost()
        limits = Budgets(settings.budgets.turn, settings.budgets.session)
        before = {"turn": spent, "session": in_session}
        return Meter(limits, settings.prices, spent=before, outer=settings.meter)

    def finish(self, session: str, state: Mapping[str, Any]) -> TurnFinished:
        """Store a turn that is at its end, and return its last event."""
        kept = {name: state[name] for name in ("messages", "pictures", "failures", "outcome")}
        kept |= {name: state[name] for name in ("finish_reason", "notices", "cost") if state.get(name)}
        self._sessions.finish(session, kept | {"id": state["turn"], "created": datetime.now(UTC).isoformat()})
        return TurnFinished(read_turn(session, state, self.path_of))

    def path_of(self, artifact_id: str) -> str:
        """Return the path of a picture; empty if it was deleted."""
        with suppress(InputError):
            return str(self._store.path(artifact_id))
        return ""

    def result(self, session: str, events: Iterable[AgentEvent]) -> Turn:
        """Run a turn to its last event, and return the turn.

        Args:
            session: Name of the session.
            events: The events of the turn.
        """
        *_, last = events
        if isinstance(last, TurnFinished):
            return last.turn
        begun = self._sessions.open_turn(session)
        turn = begun["turn"] if begun else ""
        values = self.state(turn).values
        waiting = last.captions if isinstance(last, ConfirmationNeeded) else ()
        done = read_turn(session, values, self.path_of)
        return Turn(session, turn, done.text, done.pictures, done.failures, "confirmation_needed", waiting)

    def in_thread(self, session: str, start: Callable[[], Events]) -> AsyncIterator[AgentEvent]:
        """Run a turn in a thread, and yield its events for asyncio. If the task is cancelled, the turn is abandoned."""

        def abandon() -> None:
            context = self._running.get(session)
            if context is not None:
                context.abandon()

        return in_thread(start, abandon)


def _thread(turn: str) -> RunnableConfig:
    return {"configurable": {"thread_id": turn}, "recursion_limit": 10_000}


def confirmation(session: str, state: Mapping[str, Any]) -> ConfirmationNeeded:
    """Return the event for captions that wait for the user's decision."""
    waiting = tuple(CaptionReady(call["call_id"], call["request"]) for call in state["calls"])
    return ConfirmationNeeded(session, waiting)
