"""Convert the messages of a chat request to LangChain's, with every picture stored and named by its id.

A client of this protocol sends the whole dialogue each time. So that the reasoner sees what it drew before, and can
change it, an assistant's pictures are found again in the user's store: by their addresses in the Markdown or in
`images`, or by the bytes of a data URL. Such a message becomes what the agent itself would have saved: the calls that
drew the pictures, and their results.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.tool import invalid_tool_call, tool_call

from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.core_model.encoded_picture import data_url_bytes, is_data_url
from mgem_agent.errors import InputError
from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME, new_call_id
from mgem_agent.server.chat_request import ChatMessage
from mgem_agent.server.http_errors import InvalidRequestError
from mgem_agent.server.picture_fetch import fetch_picture
from mgem_agent.server.pictures import ids_in_text

__all__ = ["Dialogue", "drawing_messages", "read_dialogue", "read_messages"]

MARKDOWN_PICTURE = re.compile(r"\n*!\[[^\]\n]*\]\([^)\s]*/pictures/img-[0-9a-f]{4,64}[^)\s]*\)\n*")
ORIGIN = "a picture sent to the server"


@dataclass(frozen=True)
class Dialogue:
    """A dialogue.

    Attributes:
        system: The instructions of the client; empty if there are none.
        history: The messages before the last user message; pictures are blocks with ids.
        last: The last user message and what follows it: a tool's results.
        key: What all requests of the dialogue have in common.
    """

    system: str
    history: tuple[BaseMessage, ...]
    last: tuple[BaseMessage, ...]
    key: str

    @property
    def text(self) -> str:
        """Text of the last user message."""
        return str(self.last[0].text) if self.last else ""

    @property
    def picture_ids(self) -> list[str]:
        """Ids of the pictures of the last user message."""
        content = self.last[0].content if self.last else ""
        blocks = () if isinstance(content, str) else content
        return [str(block["file_id"]) for block in blocks if isinstance(block, dict) and block.get("type") == "image"]


def read_dialogue(
    messages: Sequence[ChatMessage],
    store: ArtifactStore,
    *,
    max_pictures: int,
    allow_urls: bool = False,
    cancel: threading.Event | None = None,
    prior: Sequence[BaseMessage] = (),
    key: str | None = None,
) -> Dialogue:
    """Convert messages, and store their pictures.

    Args:
        messages: The messages of a request.
        store: The user's pictures.
        max_pictures: Maximum number of pictures.
        allow_urls: Whether pictures may be fetched from the web.
        cancel: Set to give it up.
        prior: Messages before those of the request.
        key: What all requests of the dialogue have in common; None for its first message.

    Raises:
        InvalidRequestError: If a message cannot be read; the error names it.
        ImageError: If an image is not a picture.
    """
    options: Any = {"max_pictures": max_pictures, "allow_urls": allow_urls, "cancel": cancel}
    system, done = read_messages(messages, store, prior=prior, **options)
    starts = [place for place, message in enumerate(done) if isinstance(message, HumanMessage)]
    if not starts or isinstance(done[-1], AIMessage) or _is_own_result(done[-1]):
        raise InvalidRequestError(
            "The last message must be from the user or a tool. Add the user's next message.", param="messages"
        )
    if key is None:
        first = next(message for message in messages if message.role == "user")
        key = json.dumps([system, first.content], ensure_ascii=False, default=str)
    return Dialogue("\n\n".join(filter(None, system)), tuple(done[: starts[-1]]), tuple(done[starts[-1] :]), key)


def read_messages(
    messages: Sequence[ChatMessage],
    store: ArtifactStore,
    *,
    max_pictures: int,
    allow_urls: bool = False,
    cancel: threading.Event | None = None,
    prior: Sequence[BaseMessage] = (),
) -> tuple[list[str], list[BaseMessage]]:
    """Return the system messages, and `prior` with all other messages; arguments and errors as for `read_dialogue`."""
    pictures = _Pictures(store, max_pictures, allow_urls, cancel)
    system: list[str] = []
    done: list[BaseMessage] = list(prior)
    answers = [message for message in prior if isinstance(message, AIMessage)]
    known = [call for answer in answers for call in (*answer.tool_calls, *answer.invalid_tool_calls)]
    calls = {str(call["id"]): str(call["name"]) for call in known}
    for place, message in enumerate(messages):
        where = f"messages.{place}"
        if message.role in ("system", "developer"):
            system.append(_text(message.content, where))
        elif message.role == "user":
            done.append(HumanMessage(content=_user_content(message, pictures, where)))
        elif message.role == "assistant":
            done += _answer(message, pictures, where, calls)
        else:
            done.append(_tool_result(message, where, calls))
    return system, done


class _Pictures:
    """Stores the pictures of a request, up to a number, and finds stored ones."""

    def __init__(
        self, store: ArtifactStore, max_pictures: int, allow_urls: bool, cancel: threading.Event | None
    ) -> None:
        self._store = store
        self._max_pictures = max_pictures
        self._allow_urls = allow_urls
        self._cancel = cancel
        self._num_given = 0

    def given(self, url: Any, where: str) -> str:
        """Store the picture of an address, and return its id.

        Raises:
            InvalidRequestError: If it cannot be used.
            ImageError: If it is not a picture.
        """
        if not isinstance(url, str) or not url:
            raise InvalidRequestError("A picture must have an address: a string under image_url.url.", param=where)
        own = ids_in_text(url) if not is_data_url(url) else []
        if own and (known := self.find(own[0])) is not None:
            return known.id
        self._num_given += 1
        if self._num_given > self._max_pictures:
            raise InvalidRequestError(
                f"The request has more than {self._max_pictures} pictures. Send fewer, or raise the limit: mgem config "
                "set server.max_pictures_in",
                param=where,
            )
        if is_data_url(url):
            data = data_url_bytes(url)
        else:
            data = fetch_picture(url, is_allowed=self._allow_urls, cancel=self._cancel, param=where)
        return self._store.put_picture(data, origin=ORIGIN).id

    def find(self, picture_id: str) -> Artifact | None:
        """Return the record of a stored picture of this user; None if there is none."""
        try:
            return self._store.get(picture_id)
        except InputError:
            return None

    def drawn(self, message: ChatMessage, text: str, where: str) -> list[Artifact]:
        """Return the stored pictures of an assistant's message, in order, without repetitions."""
        found: dict[str, Artifact] = {}
        for picture_id in ids_in_text(text):
            if (known := self.find(picture_id)) is not None:
                found[known.id] = known
        for place, block in enumerate(message.images or ()):
            url = _address(block)
            if isinstance(url, str) and (is_data_url(url) or ids_in_text(url)):
                known = self.find(self.given(url, f"{where}.images.{place}"))
                if known is not None:
                    found[known.id] = known
        return list(found.values())


def _address(block: Mapping[str, Any]) -> Any:
    address = block.get("image_url")
    return address.get("url") if isinstance(address, Mapping) else address


def _text(content: Any, where: str) -> str:
    """Return the text of a message that has no pictures."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for place, part in enumerate(content):
        if part.get("type") not in ("text", "input_text", "output_text", "refusal"):
            raise InvalidRequestError(
                f"A part of the type {str(part.get('type'))[:80]!r} is not supported here. Give text.",
                param=f"{where}.content.{place}",
            )
        texts.append(str(part.get("text") or part.get("refusal") or ""))
    return "\n".join(texts)


def _user_content(message: ChatMessage, pictures: _Pictures, where: str) -> Any:
    """Return the content of a user message: text, or blocks of pictures and text."""
    if message.content is None or isinstance(message.content, str):
        text, blocks = message.content or "", []
    else:
        blocks = list(_user_blocks(message.content, pictures, where))
        if all(block["type"] == "text" for block in blocks):
            text, blocks = "\n".join(block["text"] for block in blocks), []
        else:
            text = ""
    if not blocks and not text.strip():
        raise InvalidRequestError("The message is empty. Give a text or a picture.", param=where)
    return blocks or text


def _user_blocks(parts: Iterable[Mapping[str, Any]], pictures: _Pictures, where: str) -> Iterator[dict[str, Any]]:
    for place, part in enumerate(parts):
        kind, own = part.get("type"), f"{where}.content.{place}"
        if kind in ("text", "input_text"):
            yield {"type": "text", "text": str(part.get("text") or "")}
        elif kind in ("image_url", "input_image"):
            yield {"type": "image", "file_id": pictures.given(_address(part), own)}
        else:
            raise InvalidRequestError(
                f"A part of the type {str(kind)[:80]!r} is not supported. Supported: 'text', 'image_url'.", param=own
            )


def _answer(message: ChatMessage, pictures: _Pictures, where: str, calls: dict[str, str]) -> Iterator[BaseMessage]:
    """Yield an assistant's message; pictures that it drew become calls and their results."""
    text = _text(message.content, where)
    drawn = pictures.drawn(message, text, where)
    text = MARKDOWN_PICTURE.sub("\n\n", text).strip() if drawn else text
    theirs, invalid = [], []
    for place, call in enumerate(message.tool_calls or ()):
        function = call.get("function")
        if not isinstance(function, Mapping) or not function.get("name") or not call.get("id"):
            raise InvalidRequestError("A call must have an id and a function.", param=f"{where}.tool_calls.{place}")
        name, call_id, given = str(function["name"]), str(call["id"]), function.get("arguments") or "{}"
        calls[call_id] = name
        try:
            arguments = json.loads(given) if isinstance(given, str) else given
        except ValueError as error:
            invalid.append(invalid_tool_call(name=name, args=str(given), id=call_id, error=str(error)))
            continue
        theirs.append(tool_call(name=name, args=arguments if isinstance(arguments, dict) else {}, id=call_id))
    asked, *results = drawing_messages(text, drawn)
    calls_of = [*asked.tool_calls, *theirs] if isinstance(asked, AIMessage) else theirs
    yield asked.model_copy(update={"tool_calls": calls_of, "invalid_tool_calls": invalid})
    yield from results


def drawing_messages(text: str, drawn: Sequence[Artifact]) -> Iterator[BaseMessage]:
    """Yield an answer with pictures as the agent would have saved it: the text with the calls, and their results.

    Args:
        text: The text of the answer.
        drawn: Its pictures.
    """
    own = [
        tool_call(name=DRAW_TOOL_NAME, args={"prompt": each.title[:10_000] or "a picture"}, id=new_call_id())
        for each in drawn
    ]
    yield AIMessage(content=text, tool_calls=own)
    for drawing, artifact in zip(own, drawn, strict=True):
        told = f"Drawn: {artifact.id}, {artifact.width}x{artifact.height} pixels."
        content: list[str | dict[Any, Any]] = [
            {"type": "text", "text": told},
            {"type": "image", "file_id": artifact.id},
        ]
        yield ToolMessage(content=content, tool_call_id=drawing["id"], name=DRAW_TOOL_NAME, artifact=artifact.id)


def _is_own_result(message: BaseMessage) -> bool:
    return isinstance(message, ToolMessage) and message.artifact is not None


def _tool_result(message: ChatMessage, where: str, calls: Mapping[str, str]) -> ToolMessage:
    call_id = message.tool_call_id or ""
    if call_id not in calls:
        raise InvalidRequestError(
            f"The tool's message answers the call {call_id[:80]!r}, which no earlier message has.",
            param=f"{where}.tool_call_id",
        )
    return ToolMessage(content=_text(message.content, where), tool_call_id=call_id, name=calls[call_id])
