"""Run the turn of a response: like that of a chat request, with what the response protocol adds.

The protocol adds earlier turns by the id of a response or a conversation, the settings of the tool `image_generation`,
and edits without the reasoner. Everything here blocks, and runs in the thread of a job.

A client that leaves in the middle interrupts its turn. What is drawn is kept, and the turn is kept unfinished: a
response that continues it without an input resumes it, and one with an input ends it with what it has.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any, Literal

from mgem_agent.agent.events import AgentEvent, TurnFinished
from mgem_agent.agent.messages import to_record
from mgem_agent.errors import GenerationCancelledError, MgemError
from mgem_agent.server.conversation_store import ConversationStore
from mgem_agent.server.gathering import GatheringGenerator
from mgem_agent.server.http_errors import InvalidRequestError
from mgem_agent.server.responses_input import read_items
from mgem_agent.server.responses_plan import ResponsePlan
from mgem_agent.server.responses_request import ResponsesBody
from mgem_agent.server.responses_run import NewRun, ResponseRun, ResumedRun
from mgem_agent.server.responses_store import Place, ResponseStore, SavedResponse
from mgem_agent.server.security import User
from mgem_agent.server.service import AgentService

__all__ = ["FINAL", "ResponseTurn"]

FINAL = ("completed", "incomplete", "failed", "cancelled")


class ResponseTurn:
    """The turn of one request; each instance is used once.

    Args:
        service: The parts of the server.
        user: Whose turn it is.
        body: The client's request.
        generator: The generator that its tool names; None if it has no such tool.

    Attributes:
        writer: Writes the response; it has the response so far.
        left_as: Status of the response if it is interrupted: `cancelled` if the client said so.
    """

    def __init__(
        self, service: AgentService, user: User, body: ResponsesBody, generator: GatheringGenerator | None
    ) -> None:
        self._service = service
        self._user = user
        self._body = body
        self._plan = ResponsePlan(service, user, body, generator)
        self._responses = ResponseStore(service.sessions(user), service.store(user))
        self._conversations = ConversationStore(service.sessions(user), self._responses)
        self._run: ResponseRun | None = None
        self._is_stopped = False
        self.writer = self._plan.writer()
        self.left_as: Literal["incomplete", "cancelled"] = "incomplete"

    @property
    def is_over(self) -> bool:
        """Whether the response has its last status."""
        return self.writer.response["status"] in FINAL

    @property
    def given(self) -> list[dict[str, Any]]:
        """Records of the messages in the request, as soon as they are read."""
        return [to_record(message) for message in self._run.given] if self._run is not None else []

    @property
    def own_system(self) -> list[str]:
        """The system messages of the input."""
        return self._plan.own_system(self._responses.find_drawn)

    def run(self, cancel: Any) -> dict[str, Any]:
        """Run the turn to its end, and return the response.

        Args:
            cancel: Set to stop it.

        Raises:
            MgemError: If the request is not valid, or the reasoner fails.
        """
        response: dict[str, Any] | None = None
        for event in self._events():
            response = event.get("response", response)
            if cancel.is_set():
                self.stop()
        if response is None:
            raise GenerationCancelledError("The request was cancelled.")
        return response

    def stream(self) -> Generator[dict[str, Any], None, None]:
        """Run the turn, and yield the events of the protocol. After the first event, an error is an event as well."""
        yield from self._events(tells_errors=True)

    def stop(self) -> None:
        """Stop the turn, from any thread. It may be called repeatedly."""
        self._is_stopped = True
        if self._run is not None:
            self._run.stop()

    def leave(self) -> None:
        """Stop the turn, from any thread, and keep it unfinished if the response is saved."""
        if not self._body.store:
            self.stop()
            return
        self._is_stopped = True
        if self._run is not None:
            self._run.leave()

    def note_begun(self) -> None:
        """Save the response before its turn begins, so that it is found meanwhile."""
        self._put(Place(), [])

    def give_up(self, error: Exception | None) -> list[dict[str, Any]]:
        """Give the response its last status, if it has none because its turn did not begin; return the last events.

        Args:
            error: Why it did not; None if it was interrupted.
        """
        if self.is_over:
            return []
        events = list(self.writer.leave(self.left_as) if error is None else self.writer.fail(error))
        self._put(Place(), [])
        return events

    def _events(self, *, tells_errors: bool = False) -> Iterator[dict[str, Any]]:
        previous = self._previous()
        if previous is not None and self._responses.is_unfinished(previous):
            if not self._body.input:
                self._run = ResumedRun(self._service, self._user, self._plan, previous)
            else:
                agent = self._service.agent(self._user)
                agent.end_turn(previous.session, said=previous.unfinished_text)
        if self._run is None:
            self._run = self._new_run(previous)
        if self._is_stopped:
            raise GenerationCancelledError("The request was cancelled before it began.")
        yield from self._written(self._run, previous, tells_errors=tells_errors)

    def _written(
        self, run: ResponseRun, previous: SavedResponse | None, *, tells_errors: bool
    ) -> Iterator[dict[str, Any]]:
        writer, has_begun = self.writer, bool(self._body.background)
        if has_begun:
            yield from writer.begin()
        try:
            with closing(self._noted(run)) as turn:
                for event in turn:
                    if not has_begun:
                        has_begun = True
                        yield from writer.begin()
                    if isinstance(event, TurnFinished):
                        yield from self._finished(run, event, previous)
                    else:
                        yield from writer.write(event)
        except GeneratorExit:
            if has_begun:
                self._keep(run, previous, list(writer.leave(self.left_as)))
            raise
        except InvalidRequestError as error:
            raise _renamed(error, self._plan.num_added(previous)) from error
        except MgemError as error:
            if not has_begun or not tells_errors:
                raise
            is_left = isinstance(error, GenerationCancelledError)
            events = list(writer.leave(self.left_as) if is_left else writer.fail(error))
            self._keep(run, previous, events)
            yield from events

    def _noted(self, run: ResponseRun) -> Generator[AgentEvent, None, None]:
        """Yield the events of a turn. With the first, a response in the background is saved with its input.

        Another server may be asked for the input.
        """
        has_noted = not self._body.background
        with closing(run.stream()) as turn:
            for event in turn:
                if not has_noted:
                    has_noted = True
                    given = [to_record(message) for message in run.given]
                    self._put(Place(), [], given=given, own_system=self.own_system)
                yield event

    def _finished(
        self, run: ResponseRun, event: TurnFinished, previous: SavedResponse | None
    ) -> Iterator[dict[str, Any]]:
        """Save the response before its last event is sent, so that a client can continue it at once."""
        answer = run.answer(event.turn)
        events = list(self.writer.finish(answer, self._plan.notices))
        if self._body.store and self.writer.response["status"] != "cancelled":
            self._saved(run, run.save(answer), previous)
        return iter(events)

    def _keep(self, run: ResponseRun, previous: SavedResponse | None, last: list[dict[str, Any]]) -> None:
        """Save a response that was interrupted, with its unfinished turn; not one that has its last status already."""
        if self._body.store and last:
            self._saved(run, run.keep(self.writer), previous)

    def _saved(self, run: ResponseRun, place: Place, previous: SavedResponse | None) -> None:
        """Save the response whose turn is at a place."""
        own = self.own_system
        system = [*(previous.system if previous else ()), *own]
        given = [to_record(message) for message in run.given]
        self._put(place, system, key=run.key, given=given, own_system=own)
        if isinstance(run, ResumedRun) and not run.previous.conversation:
            self._responses.was_resumed(run.previous)
        if self._body.conversation_id is not None:
            response_id = str(self.writer.response["id"])
            self._conversations.note_response(self._body.conversation_id, response_id, place.session, own)

    def _put(self, place: Place, system: list[str], **facts: Any) -> None:
        writer = self.writer
        form = [writer.format.type, writer.format.quality]
        conversation = self._body.conversation_id or ""
        self._responses.put(
            writer.response,
            place,
            drawn=writer.drawn,
            system=system,
            format=form,
            conversation=conversation,
            **facts,
        )

    def _previous(self) -> SavedResponse | None:
        """Return the response that this one continues, or the end of its conversation."""
        body = self._body
        if body.conversation_id is not None:
            conversation = self._conversations.get(body.conversation_id, param="conversation")
            return self._conversations.head(conversation)
        if body.previous_response_id is not None:
            return self._responses.get(body.previous_response_id, param="previous_response_id")
        return None

    def _new_run(self, previous: SavedResponse | None) -> NewRun:
        body = self._body
        prior = self._responses.messages(previous) if previous is not None else []
        messages = read_items(body.input, self._responses.find_drawn)
        # Without an id, nobody could continue the turn of a response that is interrupted.
        is_kept = body.store and bool(body.stream or body.background or body.conversation_id)
        options = {"is_kept": is_kept, "is_known": bool(body.background)}
        return NewRun(self._service, self._user, self._plan, self._responses, previous, prior, messages, **options)


def _renamed(error: InvalidRequestError, num_before: int) -> InvalidRequestError:
    """Return an error about a message as one about an item of the input."""
    parts = (error.param or "").split(".")
    if parts[0] != "messages":
        return error
    if len(parts) > 1 and parts[1].isdecimal():
        parts[1] = str(max(int(parts[1]) - num_before, 0))
    return InvalidRequestError(str(error), param=".".join(["input", *parts[1:]]))
