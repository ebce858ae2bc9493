"""From a request of the responses route to the turn that answers it: its settings, its edit and its response."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from langchain_core.messages import BaseMessage

from mgem_agent.agent.events import DrawnPicture
from mgem_agent.errors import InputError
from mgem_agent.server.chat_messages import Dialogue
from mgem_agent.server.chat_request import ChatMessage, ChatRequest
from mgem_agent.server.chat_turn import TurnAdditions
from mgem_agent.server.gathering import GatheringGenerator
from mgem_agent.server.http_errors import InvalidRequestError
from mgem_agent.server.image_plan import plan_one_edit
from mgem_agent.server.picture_inputs import keep_mask
from mgem_agent.server.picture_output import PictureFormat
from mgem_agent.server.responses_input import read_items, text_of
from mgem_agent.server.responses_request import ImageTool, ResponsesBody
from mgem_agent.server.responses_store import SavedResponse
from mgem_agent.server.responses_writer import ResponseWriter
from mgem_agent.server.security import User
from mgem_agent.server.service import AGENT_MODEL, AgentService
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.tools.image_request import ImageRequest

__all__ = ["ResponsePlan"]


class ResponsePlan:
    """What a request asks of its turn.

    Args:
        service: The parts of the server.
        user: Whose turn it is.
        body: The client's request.
        generator: The generator that its tool names; None if it has no such tool.

    Attributes:
        notices: Notices on what is changed or left out.
    """

    def __init__(
        self, service: AgentService, user: User, body: ResponsesBody, generator: GatheringGenerator | None
    ) -> None:
        self._service = service
        self._body = body
        self._tool = body.image_tool or ImageTool()
        self._generator = generator
        self._pictures = service.store(user)
        self.notices: list[str] = []

    def head(self, previous: SavedResponse | None) -> list[ChatMessage]:
        """Return the system messages that are not in the input.

        Args:
            previous: The response that this one continues.
        """
        head = [ChatMessage(role="system", content=text) for text in (previous.system if previous else ())]
        instructions = self._body.instructions
        return [*head, ChatMessage(role="system", content=instructions)] if instructions else head

    def num_added(self, previous: SavedResponse | None) -> int:
        """Return the number of messages of the turn that are not in the input; argument as for `head`."""
        return len(self.head(previous))

    def own_system(self, find_drawn: Callable[[str], str | None]) -> list[str]:
        """Return the system messages of the input.

        Args:
            find_drawn: As for `read_items`.
        """
        messages = read_items(self._body.input, find_drawn) if self._body.input else []
        return [text_of(each) for each in messages if each.role in ("system", "developer")]

    def chat_request(self, messages: list[ChatMessage]) -> ChatRequest:
        """Return the request of the turn.

        Args:
            messages: Its messages.
        """
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
            generator=self.generator_name,
            budget=body.budget,
            look=body.look,
        )

    def additions(
        self, prior: Sequence[BaseMessage], key: str | None, keep: Callable[[Sessions, str], None] | None
    ) -> TurnAdditions:
        """Return what is added to the request.

        Args:
            prior: Messages before those of the request.
            key: What all requests of the dialogue have in common; None for its first message.
            keep: As for `TurnAdditions`.
        """
        tool, generator = self._tool, self._generator
        edit = partial(self._edit, generator) if generator is not None and tool.is_edit else None
        return TurnAdditions(prior, key, self.agent_settings, edit, keep)

    @property
    def agent_settings(self) -> dict[str, Any]:
        """Settings of the agent that the request changes."""
        body, tool, generator = self._body, self._tool, self._generator
        settings: dict[str, Any] = {}
        if generator is not None:
            options, notices = tool.options_for(generator.capabilities, generator=generator.name)
            self.notices = list(dict.fromkeys([*self.notices, *(notice.message for notice in notices)]))
            fields = {name: value for name, value in tool.request_fields().items() if name != "strength"}
            settings["defaults"] = {**fields, **({"options": options} if options else {})}
            settings["num_previews"] = tool.partial_images or 0
            if body.max_tool_calls is not None:
                settings["max_pictures"] = min(body.max_tool_calls, self._service.config.max_pictures)
        return settings

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
        options: Any = {"param": "tools.input_image_mask", "allow_urls": self._service.settings.allow_urls}
        mask = None if given is None else keep_mask(given, self._pictures, **options)
        request, _, notices = plan_one_edit(
            dialogue.text,
            images,
            mask,
            self._tool,
            generator,
            self._pictures,
            defaults=self._service.config.draw_defaults,
        )
        self.notices = list(dict.fromkeys([*self.notices, *(notice.message for notice in notices)]))
        return request

    @property
    def generator_name(self) -> str | None:
        """Name of the generator; None for the default."""
        return self._generator.name if self._generator is not None else None

    def writer(self) -> ResponseWriter:
        """Return the writer of the response."""
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
            "background": bool(body.background),
            "conversation": None if body.conversation_id is None else {"id": body.conversation_id},
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
            shows_drawn=not self._service.look(body.look),
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
