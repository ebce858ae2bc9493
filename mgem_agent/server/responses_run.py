"""The two ways in which a response gets its turn: a new turn, or an unfinished one that is resumed."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Protocol

from langchain_core.messages import BaseMessage, HumanMessage

from mgem_agent.agent.events import AgentEvent, Turn
from mgem_agent.agent.messages import from_records
from mgem_agent.server.chat_messages import drawing_messages
from mgem_agent.server.chat_request import ChatMessage
from mgem_agent.server.chat_turn import Answer, ChatTurn
from mgem_agent.server.responses_plan import ResponsePlan
from mgem_agent.server.responses_store import Place, ResponseStore, SavedResponse, turn_record
from mgem_agent.server.responses_writer import ResponseWriter
from mgem_agent.server.security import User
from mgem_agent.server.service import AgentService
from mgem_agent.server.usage import usage_of
from mgem_agent.sessions.sessions import Sessions

__all__ = ["NewRun", "ResponseRun", "ResumedRun"]

TITLE_CHARS = 80


class ResponseRun(Protocol):
    """A turn that answers a request."""

    @property
    def given(self) -> Sequence[BaseMessage]:
        """The messages of the request, as soon as they are read."""
        ...

    @property
    def key(self) -> str:
        """What all requests of the dialogue have in common."""
        ...

    def stream(self) -> Generator[AgentEvent, None, None]:
        """Run the turn, and yield its events."""
        ...

    def answer(self, turn: Turn) -> Answer:
        """Return the result of the finished turn."""
        ...

    def save(self, answer: Answer) -> Place:
        """Save the finished turn, and return where it is."""
        ...

    def keep(self, writer: ResponseWriter) -> Place:
        """Save a turn that was interrupted, and return where it is."""
        ...

    def stop(self) -> None:
        """Stop the turn, from any thread."""
        ...

    def leave(self) -> None:
        """Stop the turn, from any thread, and leave it unfinished."""
        ...


class NewRun:
    """A new turn.

    Args:
        service: The parts of the server.
        user: Whose turn it is.
        plan: What the request asks of it.
        responses: The user's responses.
        previous: The response that it continues; None for a new dialogue.
        prior: The messages of the dialogue so far.
        messages: The messages of the request.
        is_kept: Whether the turn is kept unfinished if it is interrupted after its first event.
        is_known: Whether the client knows the response, so that the turn is kept before its first event, too.
    """

    def __init__(
        self,
        service: AgentService,
        user: User,
        plan: ResponsePlan,
        responses: ResponseStore,
        previous: SavedResponse | None,
        prior: list[BaseMessage],
        messages: list[ChatMessage],
        *,
        is_kept: bool,
        is_known: bool,
    ) -> None:
        self._responses = responses
        self._previous = previous
        self._num_prior = len(prior)
        self._store = service.store(user)
        self._place: Place | None = None
        self._is_known = is_known
        key = previous.key if previous is not None else None
        additions = plan.additions(prior, key, self._keep_open if is_kept else None)
        self._turn = ChatTurn(service, user, plan.chat_request([*plan.head(previous), *messages]), additions)

    @property
    def given(self) -> Sequence[BaseMessage]:
        """The messages of the request, as soon as they are read."""
        dialogue = self._turn.dialogue
        return [*dialogue.history, *dialogue.last][self._num_prior :] if dialogue is not None else []

    @property
    def key(self) -> str:
        """What all requests of the dialogue have in common."""
        return self._turn.dialogue.key if self._turn.dialogue is not None else ""

    def stream(self) -> Generator[AgentEvent, None, None]:
        """Run the turn, and yield its events."""
        with closing(self._turn.stream()) as events:
            for event in events:
                self._is_known = True
                yield event

    def answer(self, turn: Turn) -> Answer:
        """Return the result of the finished turn."""
        return self._turn.answer if self._turn.answer is not None else Answer(turn, usage_of(()))

    def save(self, answer: Answer) -> Place:
        """Save the finished turn, and return where it is."""
        record = turn_record([*self.given, *self._turn.messages], answer.turn)
        return self._responses.add_turn(record, self._previous, title=self._title)

    def keep(self, writer: ResponseWriter) -> Place:
        """Return where the unfinished turn was saved. A turn with the client's functions is ended with what it has."""
        if self._place is None and not self.given:
            return Place()
        if self._place is None:
            drawn = [self._store.get(picture) for picture in writer.drawn.values()]
            answer = list(drawing_messages(writer.text, drawn))
            record = turn_record([*self.given, *answer], Turn("", "", writer.text, outcome="cancelled"))
            self._place = self._responses.add_turn(record, self._previous, title=self._title)
        return self._place

    def stop(self) -> None:
        """Stop the turn, from any thread."""
        self._turn.stop()

    def leave(self) -> None:
        """Stop the turn, from any thread, and leave it unfinished."""
        self._turn.leave()

    @property
    def _title(self) -> str:
        return self._turn.dialogue.text[:TITLE_CHARS] if self._turn.dialogue is not None else ""

    def _keep_open(self, sessions: Sessions, name: str) -> None:
        if not self._is_known:
            return
        history = self.given[:-1]
        self._place = self._responses.add_unfinished(sessions, name, history, self._previous, title=self._title)


class ResumedRun:
    """The unfinished turn of an earlier response, which is resumed where it is.

    Args:
        service: The parts of the server.
        user: Whose turn it is.
        plan: What the request asks of it.
        previous: The earlier response.

    Attributes:
        previous: As above.
        given: No messages: the request has no input.
    """

    given: Sequence[BaseMessage] = ()

    def __init__(self, service: AgentService, user: User, plan: ResponsePlan, previous: SavedResponse) -> None:
        self.previous = previous
        self._agent = service.agent(user, generator=plan.generator_name, **plan.agent_settings)
        self._place = Place(previous.session, previous.turn)

    @property
    def key(self) -> str:
        """What all requests of the dialogue have in common."""
        return self.previous.key

    def stream(self) -> Generator[AgentEvent, None, None]:
        """Run the rest of the turn, and yield its events; stored pictures are reported again."""
        return self._agent.stream_resume(self.previous.session)

    def answer(self, turn: Turn) -> Answer:
        """Return the result of the finished turn."""
        records = self._agent.sessions.turns(self.previous.session, limit=1)
        messages = from_records(records[-1]["messages"]) if records else []
        return Answer(turn, usage_of([each for each in messages if not isinstance(each, HumanMessage)]))

    def save(self, answer: Answer) -> Place:
        """Return where the turn is; the agent has saved it."""
        return self._place

    def keep(self, writer: ResponseWriter) -> Place:
        """Return where the turn is; it is still unfinished."""
        return self._place

    def stop(self) -> None:
        """Stop the turn, from any thread."""
        self._agent.cancel(self.previous.session)

    def leave(self) -> None:
        """Stop the turn, from any thread, and leave it unfinished."""
        self._agent.abandon(self.previous.session)
