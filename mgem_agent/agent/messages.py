"""Convert messages between the user, the reasoner and the store. Pictures are stored first, and referred to by id.

Saved messages contain only `file_id` blocks. Pixels are added when the reasoner is called, and only for the latest
pictures: each takes hundreds of tokens of a Mini-Gemini's short context. Older pictures are named by their ids.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, message_to_dict, messages_from_dict

from mgem_agent.artifacts.named_picture import ORIGIN_OF_DATA, resolve_picture
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.core_model.encoded_picture import read_file
from mgem_agent.errors import ImageError, InputError
from mgem_agent.text_decoding import clean_text

__all__ = ["from_records", "store_picture", "store_pictures", "to_record", "user_message", "with_pixels"]


def user_message(text: str, images: Iterable[Any], store: ArtifactStore, *, message_id: str) -> HumanMessage:
    """Create a user's message and store its pictures.

    Args:
        text: The user's text.
        images: Pictures: ids, image blocks, or anything that `load_image` reads: a path, bytes, a data URL, a PIL
            image.
        store: The picture store.
        message_id: Id of the message.

    Raises:
        InputError: If there is neither text nor a picture, or a picture's id is unknown.
        ImageError: If an image is not a picture.
    """
    if not isinstance(text, str):
        raise InputError(f"The message has the type {type(text).__name__!r}. Give a string.")
    if isinstance(images, (str, bytes, Mapping)) or not isinstance(images, Iterable):
        raise InputError(f"images has the type {type(images).__name__!r}. Give a list, even for one picture.")
    text = clean_text(text)
    blocks = [_picture_block(store_picture(image, store)) for image in images]
    if not text.strip() and not blocks:
        raise InputError("The message is empty. Give a text or a picture.")
    content: str | list[str | dict[Any, Any]] = text
    if blocks:
        content = [*blocks, {"type": "text", "text": text}] if text.strip() else [*blocks]
    return HumanMessage(content=content, id=message_id)


def store_picture(image: Any, store: ArtifactStore) -> str:
    """Store a picture and return its id.

    Args:
        image: A picture as for `user_message`.
        store: The picture store.

    Raises:
        InputError: If an id is unknown, or a block contains no readable picture.
        ImageError: If it is not a picture.
    """
    if isinstance(image, (str, Mapping)):
        return resolve_picture(image, allow_ids=True, read_file=read_file).keep(store)
    if isinstance(image, os.PathLike):
        return store.put_picture(image, origin=str(image)).id
    is_data = isinstance(image, (bytes, bytearray, memoryview))
    return store.put_picture(image, origin=ORIGIN_OF_DATA if is_data else type(image).__name__).id


def store_pictures(message: BaseMessage, store: ArtifactStore) -> BaseMessage:
    """Store the pictures in a reasoner's message. An unreadable picture is replaced by a text.

    A reasoner may be an untrusted server, so it may give pictures only as data. If it could name a file or a stored
    picture, the next request would send that file to the server.

    Args:
        message: Any message.
        store: The picture store.
    """
    if isinstance(message.content, str) or not any(map(_is_picture, message.content)):
        return message
    content: list[str | dict[Any, Any]] = []
    for block in message.content:
        if not _is_picture(block):
            content.append(block)
            continue
        try:
            content.append(_picture_block(resolve_picture(block).keep(store)))
        except InputError as error:
            content.append({"type": "text", "text": f"[a picture that cannot be read: {error}]"})
    return message.model_copy(update={"content": content})


def with_pixels(
    messages: Sequence[BaseMessage], store: ArtifactStore, *, max_pictures: int, sees: bool = True
) -> list[BaseMessage]:
    """Return messages for the reasoner, with the latest pictures as data and the others named by id.

    Args:
        messages: Messages of a dialogue, oldest first.
        store: The picture store.
        max_pictures: Maximum number of pictures to include as data.
        sees: Whether the reasoner accepts pictures.
    """
    left = max_pictures
    shown: list[BaseMessage] = []
    for message in reversed(messages):
        if isinstance(message.content, str):
            shown.append(message)
            continue
        blocks: list[str | dict[Any, Any]] = []
        for block in reversed(message.content):
            if not _is_picture(block):
                blocks.append(block)
            elif left > 0:
                left -= 1
                blocks.append(_pixels(block, store))
            else:
                blocks.append(_in_words(block, "not shown again" if sees else "not shown"))
        shown.append(message.model_copy(update={"content": blocks[::-1]}))
    return shown[::-1]


def _pixels(block: Any, store: ArtifactStore) -> dict[str, Any]:
    name = str(block.get("file_id"))
    try:
        data = store.path(name).read_bytes()
    except (InputError, ImageError, OSError):
        return _in_words(block, "no longer stored")
    return {"type": "image", "id": name, "mime_type": "image/png", "base64": base64.b64encode(data).decode("ascii")}


def _in_words(block: Any, state: str) -> dict[str, Any]:
    return {"type": "text", "text": f"[picture {block.get('file_id')}, {state}]"}


def _is_picture(block: Any) -> bool:
    return isinstance(block, Mapping) and block.get("type") in ("image", "image_url")


def _picture_block(artifact_id: str) -> dict[str, Any]:
    return {"type": "image", "file_id": artifact_id}


def to_record(message: BaseMessage) -> dict[str, Any]:
    """Convert a message to plain JSON; values in a provider's metadata that are not JSON become text."""
    record: dict[str, Any] = json.loads(json.dumps(message_to_dict(message), default=str))
    return record


def from_records(records: Sequence[dict[str, Any]]) -> list[BaseMessage]:
    """Convert records from `to_record` back to messages."""
    return messages_from_dict(list(records))
