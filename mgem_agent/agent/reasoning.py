"""Get one answer from the reasoner, whatever chat model it is: send the request, stream the answer, read the calls.

A model that uses the `<GEN>` protocol has an option for when to draw; any other model gets the drawing tool. Calls are
validated strictly, and an error in a call is returned to the model as the result of that call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
)
from langchain_core.runnables import Runnable, RunnableConfig

from mgem_agent.agent.context_window import DialogueTurns, Limits, Window
from mgem_agent.agent.messages import with_pixels
from mgem_agent.agent.reasoner_bill import ReasonerBill
from mgem_agent.agent.streamed_answer import read_answer
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.chat_models.finish_reasons import read_finish_reason
from mgem_agent.chat_models.interruptible import interruptible
from mgem_agent.chat_models.provider_rules import picture_rules, placed
from mgem_agent.chat_models.reasoner_facts import facts_of
from mgem_agent.chat_models.text_engine import FinishReason, PromptSize
from mgem_agent.errors import ContextOverflowError, InputError, ReasonerPicturesError
from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME, DrawMode, new_call_id, to_tool_call
from mgem_agent.scoring.picture_judge import can_write
from mgem_agent.tools.budget import Meter
from mgem_agent.tools.drawing_arguments import DrawArguments, read_draw_arguments
from mgem_agent.tools.tool_arguments import decode_json

__all__ = ["Answer", "Reasoning", "draw_tool_schema", "speaks_protocol"]


_FIXED_CHARS = 2_000
"""Approximate length of the drawing instructions: the protocol, or the tool's schema."""


def speaks_protocol(reasoner: BaseChatModel) -> bool:
    """Whether a chat model uses the `<GEN>` protocol itself, and takes the draw mode as an option."""
    return "draw" in type(reasoner).model_fields


@dataclass(frozen=True, slots=True)
class AnswerCall:
    """A drawing call of the reasoner.

    Attributes:
        id: Id of the call, unique in the answer.
        request: The image request as JSON, or None if it is not valid.
        error: What is wrong with the call, or None.
        notices: Notices about arguments that were left out.
    """

    id: str
    request: dict[str, Any] | None
    error: str | None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the reasoner.

    Attributes:
        message: The message to save.
        calls: The requested pictures.
        notices: Messages for the user.
        finish_reason: Why the answer ended.
    """

    message: AIMessage
    calls: tuple[AnswerCall, ...]
    notices: tuple[str, ...]
    finish_reason: FinishReason = "stop"


@dataclass(frozen=True, slots=True)
class _Request:
    """The parts of a request that do not depend on how much of the dialogue is sent."""

    draw: DrawMode
    session: str
    must_draw: bool
    cancel: threading.Event
    emit: Callable[[str], None]
    system_prompt: str | None
    meter: Meter


class Reasoning:
    """Calls a reasoner.

    Args:
        reasoner: Any chat model.
        store: The picture store.
        defaults: Default values of image requests.
        limits: Limits of a request.
        sees: Whether the reasoner accepts pictures; None to find out.
    """

    def __init__(
        self,
        reasoner: BaseChatModel,
        store: ArtifactStore,
        defaults: Mapping[str, Any],
        *,
        limits: Limits,
        sees: bool | None = None,
    ) -> None:
        self.facts = facts_of(reasoner)
        if sees is not None:
            self.facts.sees = sees
        max_new = getattr(reasoner, "max_tokens", None)
        self._limits = replace(limits, reserve=max_new if isinstance(max_new, int) else limits.reserve)
        self._reasoner = reasoner
        self._store = store
        self._defaults = defaults
        self._speaks_protocol = speaks_protocol(reasoner)
        self._rules = picture_rules(reasoner)
        self._bill = ReasonerBill(reasoner)

    @property
    def sees(self) -> bool:
        """Whether the reasoner accepts pictures, as far as known."""
        return self.facts.sees is not False

    @property
    def can_write(self) -> bool:
        """Whether the reasoner writes JSON and captions well enough to make questions."""
        return can_write(self._reasoner)

    @property
    def _allowed(self) -> Limits:
        """Limits of a request, from the settings and from the reasoner."""
        most = 0 if not self.sees else self.facts.max_pictures
        own = self._limits.max_pictures
        return replace(self._limits, max_pictures=own if most is None else min(own, most))

    def ask(
        self,
        messages: Sequence[BaseMessage],
        *,
        draw: DrawMode,
        session: str,
        is_first: bool,
        cancel: threading.Event,
        emit: Callable[[str], None],
        history: Sequence[BaseMessage] = (),
        system_prompt: str | None = None,
        meter: Meter | None = None,
    ) -> Answer:
        """Ask for one answer.

        Args:
            messages: Messages of the current turn, with pictures by id.
            draw: When to draw.
            session: Name of the session.
            is_first: Whether this is the first answer of the turn; `always` applies only to it.
            cancel: Set to stop; the text so far becomes the answer, without calls.
            emit: Receives the text as it arrives.
            history: Messages of earlier turns.
            system_prompt: System prompt for the reasoner.
            meter: Refuses a request that would pass a budget, and counts what is spent.

        Raises:
            BudgetExceededError: If the request would pass a budget; it is not sent.
            ContextOverflowError: If the current turn alone is too long.
            ReasonerError: If the reasoner's server fails.
        """
        must_draw = draw == "always" and is_first
        request = _Request(draw, session, must_draw, cancel, emit, system_prompt, meter or Meter())
        message, notices = self._asked(request, history, messages)
        if cancel.is_set():
            return Answer(AIMessage(content=message.content, id=message.id), (), tuple(notices), "cancelled")
        if must_draw and not message.tool_calls and not message.invalid_tool_calls:
            message, added = self._with_users_caption(message, messages)
            notices += added
        message = _with_own_ids(_with_decoded_calls(message))
        calls = [self._read(call["id"] or "", call["name"], call["args"], draw) for call in message.tool_calls]
        calls += [
            AnswerCall(
                call["id"] or "", None, f"The arguments of the call are not valid JSON: {call['error'] or call['args']}"
            )
            for call in message.invalid_tool_calls
        ]
        notices += [notice for call in calls for notice in call.notices]
        return Answer(message, tuple(calls), tuple(notices), read_finish_reason(message) or "stop")

    def probability_of_yes(
        self, question: HumanMessage, *, cancel: threading.Event, meter: Meter | None = None
    ) -> float | None:
        """Return how likely the reasoner says yes, or None where it does not tell.

        Args:
            question: With pictures by id.
            cancel: Set to break off.
            meter: Counts the tokens.

        Raises:
            BudgetExceededError: If the question would pass a budget; it is not asked.
            MgemError: If the reasoner fails or is cancelled.
        """
        if not isinstance(self._reasoner, GenProtocolModel):
            return None
        told = with_pixels([question], self._store, max_pictures=1, sees=self.sees)
        messages = placed(told, self._rules)
        size = self._reasoner.prompt_size(messages, draw="never")
        if meter is not None and size is not None:
            self._bill.check(meter, size.text_tokens + size.image_tokens, 1)
        found = self._reasoner.probability_of_yes(messages, cancel=cancel)
        if meter is not None and size is not None and found is not None:
            self._bill.add(meter, size.text_tokens + size.image_tokens, 1)
        return found

    def _asked(
        self, request: _Request, history: Sequence[BaseMessage], own: Sequence[BaseMessage]
    ) -> tuple[AIMessage, list[str]]:
        """Send as much of the dialogue as fits, or less if the reasoner rejects it; return the answer and notices."""
        fixed = len(request.system_prompt or "") + (0 if request.draw == "never" else _FIXED_CHARS)
        turns = DialogueTurns(history, own, fixed=fixed)
        notices: list[str] = []
        window = turns.fitting(self._limits, self.facts)
        while True:
            limits = self._allowed
            window = Window(window.first_turn, min(window.num_pictures, turns.everything(limits).num_pictures))
            told = self._rendered(request, turns, window)
            if self._is_too_long(told, turns, window, request):
                smaller = turns.smaller(window, limits, self.facts)
                if smaller is not None:
                    window = smaller
                    continue
            self._bill.check(request.meter, round(turns.estimate(window, self.facts)), self._limits.reserve or 0)
            try:
                message, said = read_answer(
                    self._chunks(told, request),
                    self._reasoner,
                    cancel=request.cancel,
                    emit=request.emit,
                    shows_pictures=window.num_pictures > 0,
                )
            except ReasonerPicturesError as error:
                if window.num_pictures <= error.max_pictures:
                    raise
                self.facts.max_pictures = error.max_pictures
                self.facts.sees = error.max_pictures > 0
                hint = "max_context_pictures " + str(error.max_pictures) if error.max_pictures else "sees false"
                notices.append(
                    f"{error} The other pictures are only named in the request. To make this permanent: "
                    f"mgem config set {hint}"
                )
            except ContextOverflowError as error:
                self._learn(error, turns, window)
                smaller = turns.smaller(window, limits, self.facts)
                if smaller is None:
                    raise
                window = smaller
            else:
                self._bill.add_answer(request.meter, message, round(turns.estimate(window, self.facts)))
                return message, [*notices, *self._left_out(turns, window, request.session), *said]

    def _rendered(self, request: _Request, turns: DialogueTurns, window: Window) -> list[BaseMessage]:
        system = [SystemMessage(content=request.system_prompt)] if request.system_prompt else []
        messages = [*system, *turns.messages(window)]
        return placed(with_pixels(messages, self._store, max_pictures=window.num_pictures, sees=self.sees), self._rules)

    def _is_too_long(
        self, told: Sequence[BaseMessage], turns: DialogueTurns, window: Window, request: _Request
    ) -> bool:
        """Whether a request exceeds the context, by the model's own token count if it has one."""
        size = getattr(self._reasoner, "prompt_size", None)
        found = size(told, draw="always" if request.must_draw else request.draw) if callable(size) else None
        if not isinstance(found, PromptSize):
            return False  # the window was chosen by estimate, and only the server knows the exact size
        self.facts.max_context = found.max_context
        self.facts.picture_tokens = float(found.tokens_per_image)
        self.facts.text_scale = max(found.text_tokens / turns.text_tokens(window), 0.01)
        return found.text_tokens + found.image_tokens > self._limits.room(self.facts)

    def _learn(self, error: ContextOverflowError, turns: DialogueTurns, window: Window) -> None:
        """Learn the size of the context and of the request from a server's error."""
        facts = self.facts
        estimate = turns.estimate(window, facts)
        asked = error.num_text_tokens + error.num_image_tokens + error.max_new_tokens
        if error.max_context is None:
            facts.max_context = int(0.75 * min(estimate, facts.max_context or estimate))
            return
        facts.max_context = error.max_context
        if not asked:
            asked = int(max(1.25 * estimate, error.max_context * 1.1))
        surplus = asked - turns.text_tokens(window) * facts.text_scale
        if window.num_pictures and surplus > 0:
            facts.picture_tokens = surplus / window.num_pictures
        elif turns.text_tokens(window):
            facts.text_scale = asked / turns.text_tokens(window)

    def _left_out(self, turns: DialogueTurns, window: Window, session: str) -> list[str]:
        """Return notices about what a request leaves out, if that is more than last time."""
        notices = []
        if (unseen := turns.num_unseen(window)) and self.sees:
            notices.append(
                f"{unseen} of your pictures were not sent to the reasoner: at most {self._allowed.max_pictures} "
                "are sent (max_context_pictures)."
            )
        context = self._limits.context(self.facts)
        if context is None:
            return notices
        num_turns = window.first_turn
        num_pictures = max(0, turns.everything(self._allowed).num_pictures - window.num_pictures)
        before = self.facts.left_out.get(session, (0, 0))
        self.facts.note_left_out(session, (num_turns, num_pictures))
        if num_turns <= before[0] and num_pictures <= before[1]:
            return notices
        parts = [f"{num_turns} earlier turn(s)"] if num_turns else []
        parts += [f"{num_pictures} picture(s)"] if num_pictures else []
        notices.append(
            f"The context of {context} tokens is full: {' and '.join(parts)} are no longer sent to the reasoner."
        )
        return notices

    def _chunks(self, messages: Sequence[BaseMessage], request: _Request) -> Iterator[BaseMessage]:
        config: RunnableConfig = {"configurable": {"thread_id": request.session}}
        if self._speaks_protocol:
            # Inside a graph, the current configuration names the turn's thread, so the dialogue's is given explicitly.
            named: dict[str, Any] = (
                {"thread_id": request.session} if isinstance(self._reasoner, GenProtocolModel) else {}
            )
            return self._reasoner.stream(list(messages), config, draw=request.draw, cancel=request.cancel, **named)
        model: Runnable[Any, Any] = self._reasoner
        if request.draw != "never":
            try:
                options = {"tool_choice": "any"} if request.must_draw else {}
                model = self._reasoner.bind_tools([draw_tool_schema()], **options)
            except NotImplementedError:
                model = self._reasoner
        return interruptible(lambda: model.stream(list(messages), config), request.cancel)

    def _read(self, call_id: str, name: str, args: Mapping[str, Any], draw: DrawMode) -> AnswerCall:
        if name != DRAW_TOOL_NAME:
            return AnswerCall(call_id, None, f"There is no tool {name!r}. The only one is {DRAW_TOOL_NAME!r}.")
        if draw == "never":
            return AnswerCall(call_id, None, "Drawing is off in this turn. Answer in words.")
        try:
            request, notices = read_draw_arguments(args, self._defaults)
            return AnswerCall(call_id, request.model_dump(mode="json"), None, notices)
        except InputError as error:
            return AnswerCall(call_id, None, str(error))

    def _with_users_caption(self, message: AIMessage, messages: Sequence[BaseMessage]) -> tuple[AIMessage, list[str]]:
        """Add a call with the user's own words, for a model that was told to draw but made no call."""
        asked = next((str(each.text) for each in reversed(messages) if isinstance(each, HumanMessage)), "")
        try:
            call = to_tool_call(asked)
        except InputError:
            return message, ["A picture was requested, but there is no text to draw it from."]
        note = "The reasoner wrote no caption, so your own words are used as the caption."
        return message.model_copy(update={"tool_calls": [call]}), [note]


def _with_decoded_calls(message: AIMessage) -> AIMessage:
    """Repair invalid calls whose arguments contain a JSON object, such as JSON encoded twice."""
    calls, invalid = list(message.tool_calls), []
    for call in message.invalid_tool_calls:
        arguments = decode_json(call["args"])
        if call["name"] and isinstance(arguments, dict):
            calls.append({"name": call["name"], "args": arguments, "id": call["id"], "type": "tool_call"})
        else:
            invalid.append(call)
    return message.model_copy(update={"tool_calls": calls, "invalid_tool_calls": invalid})


def _with_own_ids(message: AIMessage) -> AIMessage:
    """Give every call of the answer a unique id."""
    seen: set[str] = set()

    def own(call: Any) -> Any:
        name = call["id"] if call["id"] and call["id"] not in seen else new_call_id()
        seen.add(name)
        return {**call, "id": name}

    changes = {
        "tool_calls": [own(call) for call in message.tool_calls],
        "invalid_tool_calls": [own(call) for call in message.invalid_tool_calls],
    }
    return message.model_copy(update=changes)


def draw_tool_schema() -> dict[str, Any]:
    """Return the schema of the drawing tool in OpenAI's form, with the arguments that a model can choose."""
    return {
        "type": "function",
        "function": {
            "name": DRAW_TOOL_NAME,
            "description": (
                "Draw a picture and show it to the user. Write the prompt as a full caption: subject, setting, style. "
                "For several pictures call it several times in one answer. To change a picture, give its id as `image` "
                "with task 'edit' or 'image_to_image'."
            ),
            "parameters": DrawArguments.model_json_schema(),
        },
    }
