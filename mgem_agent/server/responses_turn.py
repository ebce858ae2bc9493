"""Run the turn of a response: like that of a chat request, with what the response protocol adds.

The protocol adds earlier turns by the id of a response, the settings of the tool `image_generation`, and edits without
the reasoner. Everything here blocks, and runs in the thread of a job.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial
from typing import Any

from langchain_core.messages import BaseMessage

from mgem_agent.agent.events import DrawnPicture, TurnFinished
from mgem_agent.errors import GenerationCancelledError, InputError, MgemError
from mgem_agent.server.chat_messages import Dialogue
from mgem_agent.server.chat_request import ChatMessage, ChatRequest
from mgem_agent.server.chat_turn import Answer, ChatTurn, TurnAdditions
from mgem_agent.server.gathering import GatheringGenerator
from mgem_agent.server.http_errors import InvalidRequestError
from mgem_agent.server.image_plan import plan_one_edit
from mgem_agent.server.picture_inputs import keep_mask
from mgem_agent.server.picture_output import PictureFormat
from mgem_agent.server.responses_input import read_items, text_of
from mgem_agent.server.responses_request import ImageTool, ResponsesBody
from mgem_agent.server.responses_store import ResponseStore, SavedResponse
from mgem_agent.server.responses_writer import ResponseWriter
from mgem_agent.server.security import User
from mgem_agent.server.service import AGENT_MODEL, AgentService
from mgem_agent.tools.image_request import ImageRequest

__all__ = ["ResponseTurn"]

TITLE_CHARS = 80


class ResponseTurn:
    """The turn of one request; each instance is used once.

    Args:
        service: The parts of the server.
        user: Whose turn it is.
        body: The client's request.
        generator: The generator that its tool names; None if it has no such tool.
    """

    def __init__(
        self, service: AgentService, user: User, body: ResponsesBody, generator: GatheringGenerator | None
    ) -> None:
        self._service = service
        self._user = user
        self._body = body
        self._tool = body.image_tool or ImageTool()
        self._generator = generator
        self._pictures = service.store(user)
        self._responses = ResponseStore(service.sessions(user), self._pictures)
        self._turn: ChatTurn | None = None
        self._is_stopped = False
        self._notices: list[str] = []

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
        if self._turn is not None:
            self._turn.stop()

    def _events(self, *, tells_errors: bool = False) -> Iterator[dict[str, Any]]:
        body = self._body
        previous = None
        if body.previous_response_id is not None:
            previous = self._responses.get(body.previous_response_id, param="previous_response_id")
        prior = self._responses.messages(previous) if previous is not None else []
        messages, places = self._messages(previous)
        turn = self._turn = ChatTurn(
            self._service, self._user, self._chat_request(messages), self._additions(previous, prior)
        )
        if self._is_stopped:
            raise GenerationCancelledError("The request was cancelled before it began.")
        writer = self._writer()
        has_begun = False
        try:
            for event in turn.stream():
                if not has_begun:
                    has_begun = True
                    yield from writer.begin()
                if isinstance(event, TurnFinished) and turn.answer is not None and turn.dialogue is not None:
                    answer, dialogue = turn.answer, turn.dialogue
                    events = list(writer.finish(answer, self._notices))
                    self._save(writer, answer, [*_given(dialogue, prior), *turn.messages], previous, dialogue)
                    yield from events
                else:
                    yield from writer.write(event)
        except InvalidRequestError as error:
            raise _renamed(error, places) from error
        except MgemError as error:
            if not has_begun or not tells_errors:
                raise
            yield from writer.fail(error)

    def _save(
        self,
        writer: ResponseWriter,
        answer: Answer,
        messages: list[BaseMessage],
        previous: SavedResponse | None,
        dialogue: Dialogue,
    ) -> None:
        """Save the response before its last event is sent, so that a client can continue it at once."""
        if not self._body.store or writer.response["status"] == "cancelled":
            return
        self._responses.save(
            writer.response,
            answer.turn,
            messages,
            drawn=writer.drawn,
            previous=previous,
            title=dialogue.text[:TITLE_CHARS],
            key=dialogue.key,
            system=[*(previous.system if previous else ()), *self._own_system()],
            format=[writer.format.type, writer.format.quality],
        )

    def _own_system(self) -> list[str]:
        """Return the system messages of the input."""
        messages = read_items(self._body.input, self._responses.find_drawn)
        return [text_of(each) for each in messages if each.role in ("system", "developer")]

    def _messages(self, previous: SavedResponse | None) -> tuple[list[ChatMessage], int]:
        """Return the messages of the request, and how many of them are not in its input."""
        head = [ChatMessage(role="system", content=text) for text in (previous.system if previous else ())]
        if self._body.instructions:
            head.append(ChatMessage(role="system", content=self._body.instructions))
        return [*head, *read_items(self._body.input, self._responses.find_drawn)], len(head)

    def _chat_request(self, messages: list[ChatMessage]) -> ChatRequest:
        body = self._body
        is_drawing = body.draw_mode != "never"
        return ChatRequest(
            model=AGENT_MODEL if is_drawing else body.model,
            messages=messages,
            max_tokens=body.max_output_tokens,
            temperature=body.temperature,
            top_p=body.top_p,
            seed=self._tool.seed,
            tools=body.functions or None,
            tool_choice=body.chat_tool_choice,
            response_format=body.response_format,
            draw=body.draw_mode,
            generator=self._generator.name if self._generator is not None else None,
        )

    def _additions(self, previous: SavedResponse | None, prior: list[BaseMessage]) -> TurnAdditions:
        body, tool, generator = self._body, self._tool, self._generator
        settings: dict[str, Any] = {}
        edit = None
        if generator is not None:
            edit = partial(self._edit, generator) if tool.is_edit else None
            options, notices = tool.options_for(generator.capabilities, generator=generator.name)
            self._notices += [notice.message for notice in notices]
            fields = {name: value for name, value in tool.request_fields().items() if name != "strength"}
            settings["defaults"] = {**fields, **({"options": options} if options else {})}
            settings["num_previews"] = tool.partial_images or 0
            if body.max_tool_calls is not None:
                settings["max_pictures"] = min(body.max_tool_calls, self._service.config.max_pictures)
        key = previous.key if previous is not None else None
        return TurnAdditions(prior, key, settings, edit)

    def _edit(self, generator: GatheringGenerator, dialogue: Dialogue) -> ImageRequest:
        """Return the request that edits the picture of the last message, or else the last picture of the dialogue."""
        images = dialogue.picture_ids or _pictures_in(dialogue.history)[-1:]
        if not images:
            raise InvalidRequestError(
                "There is no picture to edit. Send one as 'input_image', or continue a response with a picture.",
                param="input",
            )
        if not dialogue.text.strip():
            raise InvalidRequestError("There is no text that says what to change. Add an 'input_text'.", param="input")
        given = self._tool.input_image_mask
        mask = None if given is None else keep_mask(given, self._pictures, param="tools.input_image_mask")
        request, _, notices = plan_one_edit(
            dialogue.text,
            images,
            mask,
            self._tool,
            generator,
            self._pictures,
            defaults=self._service.config.draw_defaults,
        )
        self._notices = list(dict.fromkeys([*self._notices, *(notice.message for notice in notices)]))
        return request

    def _writer(self) -> ResponseWriter:
        body, tool = self._body, self._tool
        head: dict[str, Any] = {
            "model": body.model or AGENT_MODEL,
            "instructions": body.instructions,
            "metadata": body.metadata or {},
            "tools": body.tools,
            "tool_choice": body.tool_choice,
            "parallel_tool_calls": body.parallel_tool_calls,
            "previous_response_id": body.previous_response_id,
            "temperature": body.temperature,
            "top_p": body.top_p,
            "max_output_tokens": body.max_output_tokens,
            "max_tool_calls": body.max_tool_calls,
            "text": body.text or {"format": {"type": "text"}},
            "truncation": body.truncation or "auto",
            "reasoning": body.reasoning,
            "user": body.user,
            "background": False,
            "store": body.store,
        }
        fields: dict[str, Any] = {
            "action": "edit" if self._generator is not None and tool.is_edit else "generate",
            "background": tool.background or "auto",
            "quality": tool.quality if tool.quality not in (None, "standard", "hd") else "auto",
            "output_format": tool.format.type,
        }
        return ResponseWriter(
            head,
            lambda picture: self._described(picture, tool.format),
            tool.format,
            fields,
            shows_drawn=not self._service.config.look,
        )

    def _described(self, picture: DrawnPicture, form: PictureFormat) -> dict[str, Any]:
        described: dict[str, Any] = {"revised_prompt": picture.prompt, "picture_id": picture.artifact_id}
        try:
            known = self._pictures.get(picture.artifact_id)
            described["result"] = form.of_file(self._pictures.path(picture.artifact_id))
        except InputError:  # it was deleted meanwhile
            return described
        return described | {"size": f"{known.width}x{known.height}", "seed": known.seed}


def _pictures_in(messages: Any) -> list[str]:
    """Return the ids of the pictures of messages, in order."""
    found = []
    for message in messages:
        blocks = message.content if isinstance(message.content, list) else ()
        found += [str(block["file_id"]) for block in blocks if isinstance(block, dict) and block.get("file_id")]
    return found


def _renamed(error: InvalidRequestError, num_before: int) -> InvalidRequestError:
    """Return an error about a message as one about an item of the input."""
    parts = (error.param or "").split(".")
    if parts[0] != "messages":
        return error
    if len(parts) > 1 and parts[1].isdecimal():
        parts[1] = str(max(int(parts[1]) - num_before, 0))
    return InvalidRequestError(str(error), param=".".join(["input", *parts[1:]]))


def _given(dialogue: Dialogue, prior: list[BaseMessage]) -> list[BaseMessage]:
    """Return the messages of the request itself."""
    return [*dialogue.history, *dialogue.last][len(prior) :]
