"""Run the turn of a chat request: with the agent, or with the reasoner and the client's own tools.

The client sends the whole dialogue, so the turn's session exists only while it runs. Its pictures stay in the user's
store. Everything here blocks, and runs in the thread of a job.
"""

from __future__ import annotations

import json
import queue
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.events import AgentEvent, TextPiece, Turn, TurnFinished
from mgem_agent.agent.messages import from_records, to_record, with_pixels
from mgem_agent.agent.reasoning import draw_tool_schema, speaks_protocol
from mgem_agent.agent.streamed_answer import read_answer
from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.chat_models.finish_reasons import read_finish_reason
from mgem_agent.chat_models.interruptible import interruptible
from mgem_agent.chat_models.provider_rules import picture_rules, placed
from mgem_agent.errors import GenerationCancelledError, InputError
from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME, DrawMode, new_call_id
from mgem_agent.server.chat_messages import Dialogue, read_dialogue
from mgem_agent.server.chat_request import ChatRequest
from mgem_agent.server.http_errors import NotFoundError
from mgem_agent.server.security import User
from mgem_agent.server.service import AGENT_MODEL, AgentService
from mgem_agent.server.usage import Usage, usage_of
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.tools.budget import Budgets
from mgem_agent.tools.drawing_arguments import read_draw_arguments
from mgem_agent.tools.image_request import ImageRequest

__all__ = ["Answer", "ChatTurn", "TurnAdditions"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a turn.

    Attributes:
        turn: Text, pictures and failures.
        usage: Its tokens.
        tool_calls: Calls of the client's tools, in OpenAI's form.
    """

    turn: Turn
    usage: Usage
    tool_calls: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class TurnAdditions:
    """What a route adds to the request of a turn.

    Attributes:
        prior: Messages before those of the request.
        key: What all requests of the dialogue have in common; None for its first message.
        agent_settings: Arguments of `MgemAgent` for this turn.
        edit: Returns the request to draw for a dialogue, so that the reasoner is not asked; None to ask it.
        keep: Called with the sessions and the session of an unfinished turn before they pass; None to drop it.
    """

    prior: Sequence[BaseMessage] = ()
    key: str | None = None
    agent_settings: Mapping[str, Any] = field(default_factory=dict)
    edit: Callable[[Dialogue], ImageRequest] | None = None
    keep: Callable[[Sessions, str], None] | None = None


NOTHING = TurnAdditions()


class ChatTurn:
    """The turn of one request; each instance is used once.

    Args:
        service: The parts of the server.
        user: Whose turn it is.
        request: The client's request.
        additions: What the route adds.

    Attributes:
        answer: The result, after the last event.
        dialogue: The dialogue of the request, after the first event.
        messages: The messages of the turn after those of the request, after the last event.

    Raises:
        NotFoundError: If there is no model of the request's name.
    """

    def __init__(
        self, service: AgentService, user: User, request: ChatRequest, additions: TurnAdditions = NOTHING
    ) -> None:
        known = (AGENT_MODEL, service.reasoner_name)
        self._model = service.settings.model_aliases.get(request.model, request.model)
        if self._model and self._model not in known:
            hint = " Draw with it by /v1/images/generations." if request.model in service.generators.names else ""
            raise NotFoundError(
                f"There is no chat model {request.model[:200]!r}. Available: {', '.join(map(repr, known))}.{hint}",
                param="model",
            )
        self.answer: Answer | None = None
        self.dialogue: Dialogue | None = None
        self.messages: tuple[BaseMessage, ...] = ()
        self._additions = additions
        self._service = service
        self._user = user
        self._request = request
        self._cancel = threading.Event()
        self._agent: MgemAgent | None = None
        self._session = ""

    def run(self, cancel: threading.Event) -> Answer:
        """Run the turn to its end.

        Args:
            cancel: Set to stop it.

        Raises:
            MgemError: If the request is not valid, or the reasoner fails.
            GenerationCancelledError: If it was stopped before it began.
        """
        for _ in self._events(is_watched=False):
            if cancel.is_set():
                self.stop()
        if self.answer is None:
            raise GenerationCancelledError("The request was cancelled.")
        return self.answer

    def stream(self) -> Generator[AgentEvent, None, None]:
        """Run the turn, and yield its events; errors as for `run`. `answer` is set before the last event."""
        return self._events(is_watched=True)

    def stop(self) -> None:
        """Stop the turn, from any thread. It may be called repeatedly."""
        self._cancel.set()
        if self._agent is not None:
            self._agent.cancel(self._session)

    def leave(self) -> None:
        """Stop the turn like `stop`, and leave it unfinished, so that it can be kept and resumed."""
        self._cancel.set()
        if self._agent is not None:
            self._agent.abandon(self._session)

    def _events(self, *, is_watched: bool) -> Generator[AgentEvent, None, None]:
        request, service, additions = self._request, self._service, self._additions
        service.generators.get(request.generator)
        dialogue = self.dialogue = read_dialogue(
            request.messages,
            service.store(self._user),
            max_pictures=service.settings.max_pictures_in,
            allow_urls=service.settings.allow_urls,
            cancel=self._cancel,
            prior=additions.prior,
            key=additions.key,
        )
        with ExitStack() as stack:
            key = f"{self._user.namespace}\n{dialogue.key}"
            sessions, self._session = stack.enter_context(service.passing_session(key))
            agent = self._agent = self._make_agent(dialogue)
            if self._cancel.is_set():
                raise GenerationCancelledError("The request was cancelled before it began.")
            if additions.edit is None and (request.tools or request.response_format or len(dialogue.last) > 1):
                yield from self._with_tools(agent, dialogue)
                return
            try:
                yield from self._agents_events(agent, sessions, dialogue, is_watched=is_watched)
            except BaseException:
                if additions.keep is not None and sessions.open_turn(self._session) is not None:
                    additions.keep(sessions, self._session)
                raise

    def _agents_events(
        self, agent: MgemAgent, sessions: Sessions, dialogue: Dialogue, *, is_watched: bool
    ) -> Generator[AgentEvent, None, None]:
        """Run a turn of the agent, which is resumable if it is interrupted."""
        if self._additions.edit is not None:
            edit = self._additions.edit(dialogue)
            yield from self._noted(agent.stream_drawing([edit], dialogue.text, session=self._session), agent)
            return
        _add_history(sessions, self._session, dialogue.history, self._service.config.max_history_turns)
        given, draw = (dialogue.text, dialogue.picture_ids), self._draw_mode
        if is_watched:
            yield from self._noted(agent.stream(*given, session=self._session, draw=draw), agent)
        else:
            yield self._finished(agent.invoke(*given, session=self._session, draw=draw), agent)

    @property
    def _draw_mode(self) -> DrawMode:
        if self._model == self._service.reasoner_name and self._model != AGENT_MODEL:
            return "never"
        return self._request.draw_mode or self._service.config.draw

    def _make_agent(self, dialogue: Dialogue) -> MgemAgent:
        config, request = self._service.config, self._request
        options = _supported(self._service.reasoner, request.reasoner_options)
        changes: dict[str, Any] = {}
        if dialogue.system:
            changes["system_prompt"] = "\n\n".join(filter(None, [config.system_prompt, dialogue.system]))
        if request.budget is not None:
            changes["budget"] = config.budgets.within(Budgets.parse(request.budget))
        if request.look is not None:
            changes["look"] = request.look
        changes |= self._additions.agent_settings
        return self._service.agent(
            self._user,
            generator=request.generator,
            reasoner_options=options,
            is_saved=False,
            **{**changes, "defaults": self._draw_defaults},
        )

    def _noted(self, events: Iterator[AgentEvent], agent: MgemAgent) -> Generator[AgentEvent, None, None]:
        """Yield the events of a turn, and set the answer before the last one."""
        for event in events:
            if isinstance(event, TurnFinished):
                event = self._finished(event.turn, agent)
            yield event

    def _finished(self, turn: Turn, agent: MgemAgent) -> TurnFinished:
        records = agent.sessions.turns(self._session, limit=1)
        messages = from_records(records[-1]["messages"]) if records else []
        self.messages = tuple(messages[1:])
        self.answer = Answer(turn, usage_of(messages))
        return TurnFinished(turn)

    def _with_tools(self, agent: MgemAgent, dialogue: Dialogue) -> Generator[AgentEvent, None, None]:
        """Ask the reasoner with the client's tools; draw what it requests, and return the client's calls."""
        answer = yield from _emitted(lambda emit: self._ask(agent, dialogue, emit))
        own_names = {str(tool["function"]["name"]) for tool in self._request.tools or ()}
        is_ours = DRAW_TOOL_NAME not in own_names
        calls, requests = [], []
        notices: list[str] = []
        for call in answer.tool_calls:
            if not is_ours or call["name"] != DRAW_TOOL_NAME:
                calls.append(_openai_call(call["name"], call["args"], call["id"]))
                continue
            try:
                drawn, told = read_draw_arguments(call["args"], self._draw_defaults)
                requests.append(drawn)
                notices += told
            except InputError as error:
                notices.append(f"A picture was not drawn: {error}")
        calls += [
            _openai_call(call["name"] or "", call["args"] or "", call["id"]) for call in answer.invalid_tool_calls
        ]
        reason = read_finish_reason(answer) or "stop"
        turn = Turn(self._session, uuid.uuid4().hex, str(answer.text), finish_reason=reason, notices=tuple(notices))
        if requests and self._draw_mode != "never" and not self._cancel.is_set():
            turn = yield from self._drawn(agent, dialogue, requests, turn)
        theirs = {call["id"] for call in calls}
        kept = [call for call in answer.tool_calls if call["id"] in theirs]
        self.messages = (*self.messages, answer.model_copy(update={"tool_calls": kept}))
        self.answer = Answer(turn, usage_of([answer]), tuple(calls))
        yield TurnFinished(turn)

    @property
    def _draw_defaults(self) -> dict[str, Any]:
        seed = {} if self._request.seed is None else {"seed": self._request.seed % 2**63}
        return self._service.config.draw_defaults | seed | self._additions.agent_settings.get("defaults", {})

    def _drawn(
        self, agent: MgemAgent, dialogue: Dialogue, requests: Sequence[ImageRequest], said: Turn
    ) -> Generator[AgentEvent, None, Turn]:
        """Draw the reasoner's requests, and return the turn with its pictures."""
        most = self._additions.agent_settings.get("max_pictures", self._service.config.max_pictures)
        turn = said
        for event in agent.stream_drawing(requests[:most], dialogue.text, session=self._session):
            if isinstance(event, TurnFinished):
                turn = event.turn
            else:
                yield event
        records = agent.sessions.turns(self._session, limit=1)
        self.messages = tuple(from_records(records[-1]["messages"])[1:]) if records else ()
        limit = (f"A turn draws at most {most} picture(s).",) if len(requests) > most else ()
        return Turn(
            said.session,
            said.id,
            said.text,
            turn.pictures,
            turn.failures,
            turn.outcome,
            finish_reason=said.finish_reason,
            notices=(*said.notices, *turn.notices, *limit),
        )

    def _ask(self, agent: MgemAgent, dialogue: Dialogue, emit: Callable[[str], None]) -> AIMessage:
        """Ask the reasoner once, with the client's tools and ours."""
        service, request, draw = self._service, self._request, self._draw_mode
        reasoner = service.reasoner
        if options := _supported(reasoner, request.reasoner_options):
            reasoner = reasoner.model_copy(update=options)
        system = "\n\n".join(filter(None, [service.config.system_prompt, dialogue.system]))
        told: list[BaseMessage] = [SystemMessage(content=system)] if system else []
        told += [*dialogue.history, *dialogue.last]
        most = service.config.max_context_pictures
        shown = with_pixels(told, agent.store, max_pictures=most, sees=service.config.sees is not False)
        messages = placed(shown, picture_rules(reasoner))
        chunks = self._chunks(reasoner, messages, draw)
        has_pictures = any(not isinstance(message.content, str) for message in messages)
        answer, _ = read_answer(chunks, reasoner, cancel=self._cancel, emit=emit, shows_pictures=has_pictures)
        named = [{**call, "id": call["id"] or new_call_id()} for call in answer.tool_calls]
        return answer.model_copy(update={"tool_calls": named})

    def _chunks(self, reasoner: BaseChatModel, messages: list[BaseMessage], draw: DrawMode) -> Iterator[BaseMessage]:
        request = self._request
        options: dict[str, Any] = {}
        if request.response_format is not None:
            options["response_format"] = request.response_format
        tools = list(request.tools or ())
        names = {str(tool["function"]["name"]) for tool in tools}
        may_draw = draw != "never" and DRAW_TOOL_NAME not in names
        if tools and may_draw and request.tool_choice in (None, "auto"):
            tools.append(draw_tool_schema())
        model: Any = reasoner
        if tools:
            choice: Any = request.tool_choice or "auto"
            model = reasoner.bind_tools(tools, tool_choice=choice)
        config: Any = {"configurable": {"thread_id": self._session}}
        if speaks_protocol(reasoner):
            if isinstance(reasoner, GenProtocolModel):
                options["thread_id"] = self._session
            found: Iterator[BaseMessage] = model.stream(messages, config, draw=draw, cancel=self._cancel, **options)
            return found
        return interruptible(lambda: model.stream(messages, config, **options), self._cancel)


def _supported(reasoner: BaseChatModel, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the reasoner has, under its own names."""
    fields = type(reasoner).model_fields
    names = {name: next((each for each in (name, field.alias) if each), name) for name, field in fields.items()}
    by_alias = {alias: name for name, alias in names.items()} | {name: name for name in fields}
    found = {by_alias[name]: value for name, value in options.items() if name in by_alias}
    if "stop" in options and "stop" not in by_alias and "stop_sequences" in by_alias:
        found[by_alias["stop_sequences"]] = options["stop"]
    return found


def _add_history(sessions: Sessions, session: str, history: Sequence[BaseMessage], max_turns: int) -> None:
    """Save the earlier messages of a dialogue as one finished turn."""
    starts = [place for place, message in enumerate(history) if message.type == "human"]
    first = 0 if len(starts) <= max_turns else (starts[-max_turns] if max_turns else len(history))
    if not history[first:]:
        return
    turn = uuid.uuid4().hex
    sessions.begin(session, {"turn": turn}, title="")
    messages = [to_record(message) for message in history[first:]]
    sessions.finish(session, {"id": turn, "messages": messages, "pictures": [], "failures": [], "outcome": "answered"})


def _openai_call(name: str, arguments: Any, call_id: str | None) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"id": call_id or new_call_id(), "type": "function", "function": {"name": name, "arguments": text}}


def _emitted(ask: Callable[[Callable[[str], None]], AIMessage]) -> Generator[AgentEvent, None, AIMessage]:
    """Run a function that passes text on, and yield the text; return the function's result."""
    pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    found: list[AIMessage | BaseException] = []

    def run() -> None:
        try:
            found.append(ask(pieces.put))
        except BaseException as error:  # raised again below
            found.append(error)
        finally:
            pieces.put(None)

    thread = threading.Thread(target=run, name="mgem-answer", daemon=True)
    thread.start()
    while (text := pieces.get()) is not None:
        yield TextPiece(text)
    thread.join()
    [result] = found
    if isinstance(result, BaseException):
        raise result
    return result
