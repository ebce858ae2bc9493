"""One call of a tool: its parts, its progress, its cancellation, and its questions to a person."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mcp.server.context import ServerRequestContext
from mcp.types import (
    CallToolRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequests,
    InputRequiredResult,
)
from mcp.types.version import is_version_at_least

from mgem_agent.errors import InputError
from mgem_agent.mcp.parts import McpParts
from mgem_agent.tools.image_result import GenerationProgress

__all__ = ["INPUT_REQUIRED_VERSION", "Call", "NeedsInputError", "Progress", "Question"]

Result = TypeVar("Result")

ANSWER = "answer"
INPUT_REQUIRED_VERSION = "2026-07-28"
"""First version of the protocol in which a question is the result of a call, and the answer comes with its repetition.
Earlier, the server sends a request of its own while the call runs."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question to the person at the client, as a form.

    Attributes:
        message: The question.
        fields: JSON Schema of each field, by name.
        otherwise: Why it must be asked, and how to allow the call without it; for the error if nobody can be asked.
    """

    message: str
    otherwise: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def schema(self) -> dict[str, Any]:
        """The form, as JSON Schema."""
        return {"type": "object", "properties": dict(self.fields), "required": []}

    @property
    def digest(self) -> str:
        """A hash of the question, so that an answer counts for this question only."""
        text = json.dumps([self.message, self.schema], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class NeedsInputError(Exception):
    """The call must be repeated with answers.

    Args:
        result: The questions, as the result of the call.
    """

    def __init__(self, result: InputRequiredResult) -> None:
        super().__init__("The client must answer questions.")
        self.result = result


class Progress:
    """Progress of one call; may be set from any thread, and is sent on the event loop. Only the latest is sent."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._latest: tuple[float, float | None, str] | None = None
        self._sent = 0.0
        self._changed = asyncio.Event()
        self._is_closed = False

    def set(self, done: float, total: float | None, message: str) -> None:
        """Set the progress.

        Args:
            done: How much is done; sent only if it has increased.
            total: How much there is to do; None if unknown.
            message: What is being done.
        """
        self._latest = (done, total, message)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)

    def set_step(self, step: GenerationProgress) -> None:
        """Set the progress of one picture."""
        of_all = f" of {step.num_steps}" if step.num_steps else ""
        self.set(step.step, step.num_steps or None, f"Drawing: step {step.step}{of_all}")

    async def send_changes(self) -> None:
        """Send changes until `close` is called."""
        while not self._is_closed:
            await self._changed.wait()
            self._changed.clear()
            if self._latest is not None and self._latest[0] > self._sent:
                self._sent = self._latest[0]
                await self._session.report_progress(*self._latest)

    def close(self) -> None:
        """End `send_changes` after the latest change."""
        self._is_closed = True
        self._changed.set()


class Call:
    """A call of a tool.

    Args:
        parts: The parts of the server.
        context: The request, as the SDK describes it.
        params: The parameters of the request.
    """

    def __init__(self, parts: McpParts, context: ServerRequestContext[Any, Any], params: CallToolRequestParams) -> None:
        self.parts = parts
        self._context = context
        self._params = params

    @property
    def can_ask(self) -> bool:
        """Whether the client can show a form to a person."""
        session = self._context.session
        capabilities = session.client_capabilities
        elicitation = capabilities.elicitation if capabilities is not None else None
        if elicitation is None or (elicitation.form is None and elicitation.url is not None):
            return False
        return self._answers_come_later or session.can_send_request

    @property
    def _answers_come_later(self) -> bool:
        return is_version_at_least(self._context.protocol_version, INPUT_REQUIRED_VERSION)

    def progress(self) -> Progress:
        """Return what reports the progress of this call."""
        return Progress(self._context.session)

    async def work(
        self, kind: str, function: Callable[[threading.Event, Progress], Result], *, title: str = ""
    ) -> Result:
        """Run a function that draws or thinks, and send its progress. Cancelling the call stops it.

        Args:
            kind: What it does.
            function: Called in a thread, with an event that is set to stop it, and the progress to set.
            title: The beginning of the prompt.
        """
        progress = self.progress()
        sending = asyncio.ensure_future(progress.send_changes())
        try:
            result = await self.parts.run(kind, lambda cancel: function(cancel, progress), title=title)
            progress.close()
            await sending
            return result
        finally:
            sending.cancel()

    async def ask(self, question: Question) -> dict[str, Any] | None:
        """Ask the person at the client.

        Args:
            question: The question.

        Returns:
            The filled form, or None if the person refuses.

        Raises:
            InputError: If the client cannot ask.
            NeedsInputError: If the answer comes with the repetition of the call.
        """
        if not self.can_ask:
            raise InputError(f"This client cannot ask a person (MCP elicitation). {question.otherwise}")
        if self._answers_come_later:
            answer = self._answer_of(question)
        else:
            answer = await self._context.session.elicit_form(
                question.message, question.schema, self._context.request_id
            )
        return dict(answer.content or {}) if answer.action == "accept" else None

    def _answer_of(self, question: Question) -> ElicitResult:
        """The answer to a question, from this repetition of the call or an earlier one; the SDK seals the state."""
        asked, answers = _read_state(self._params.request_state)
        given = (self._params.input_responses or {}).get(ANSWER)
        if isinstance(given, ElicitResult) and asked is not None:
            answers[asked] = given.model_dump(mode="json", include={"action", "content"})
        digest = question.digest
        if digest in answers:
            return ElicitResult.model_validate(answers[digest])
        form = ElicitRequestFormParams(message=question.message, requested_schema=question.schema)
        state = json.dumps({"asked": digest, "answers": answers})
        requests: InputRequests = {ANSWER: ElicitRequest(params=form)}
        raise NeedsInputError(InputRequiredResult(input_requests=requests, request_state=state))


def _read_state(state: str | None) -> tuple[str | None, dict[str, Any]]:
    """The question that was asked last, and the answers to earlier ones, by their digests."""
    if state is None:
        return None, {}
    found = json.loads(state)
    return found["asked"], dict(found["answers"])
