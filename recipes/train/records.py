r"""Records of dialogues about pictures, in the format that LLaVA and the Mini-Gemini data have.

A file is a JSON list or JSON lines of::

    {"id": "7", "image": "a.png", "conversations": [{"from": "human", "value": "<image>\nWhat is it?", "draw": false},
                                                    {"from": "gpt", "value": "A cat."}]}

`image` is optional and may be a list. As in the authors' training, a message's pictures come before its text, wherever
their marks are. A human turn asks for a picture if its text ends with `<GEN>` or if it has `"draw": true`.

Only the offsets of JSON lines are kept in memory; a line is read from the file when it is needed. A JSON list is kept
in memory whole.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgem_agent.errors import InputError

__all__ = ["BrokenRecordError", "RecordFile", "RecordSummary", "dialogue_of", "summarise"]

_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
_MARK = "<image>"
_TRIGGER = "<GEN>"
_CHARS_PER_TOKEN = 4


class BrokenRecordError(InputError):
    """A record that cannot be trained on.

    Args:
        reason: A short category, for counting.
        message: What is wrong.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True)
class RecordSummary:
    """What batching needs to know of a record.

    Args:
        num_images: Number of pictures.
        num_text_tokens: Approximate number of text tokens.
    """

    num_images: int
    num_text_tokens: int


class RecordFile:
    """The records of one file, by index.

    Args:
        path: A `.json` list or `.jsonl` lines.
        images: Folder of the pictures; None for the folder of the file.

    Raises:
        InputError: If the file cannot be read or is not a list of records.
    """

    def __init__(self, path: str | Path, images: str | Path | None = None) -> None:
        self.path = Path(path)
        self.images = Path(images) if images is not None else self.path.parent
        self._records: list[Any] | None = None
        self._places = array("Q")
        try:
            self._read()
        except OSError as error:
            raise InputError(
                f"The data {str(path)!r} cannot be read: {error.strerror}. Create it with: mgem data"
            ) from error
        if not len(self):
            raise InputError(f"The data {str(path)!r} hold no record. Create them with: mgem data")

    def _read(self) -> None:
        if self.path.suffix == ".jsonl":
            with self.path.open("rb") as file:
                place = 0
                for line in file:
                    if not line.isspace():
                        self._places.append(place)
                    place += len(line)
            return
        try:
            records = json.loads(self.path.read_bytes())
        except ValueError as error:
            raise InputError(
                f"The data {str(self.path)!r} are not JSON: {error}. One record a line? Name it .jsonl"
            ) from error
        if not isinstance(records, list):
            raise InputError(f"The data {str(self.path)!r} must be a JSON list, got {type(records).__name__}.")
        self._records = records

    def __len__(self) -> int:
        return len(self._places) if self._records is None else len(self._records)

    def __getitem__(self, position: int) -> Any:
        """Return a record as the file has it.

        Raises:
            BrokenRecordError: If its line is not JSON.
        """
        if self._records is not None:
            return self._records[position]
        with self.path.open("rb") as file:
            file.seek(self._places[position])
            line = file.readline()
        try:
            return json.loads(line)
        except ValueError as error:
            raise BrokenRecordError("not JSON", f"the line is not JSON: {error}") from error


def pictures_of(record: Any, images: Path) -> list[Path]:
    """Return the files of a record's pictures.

    Args:
        record: The record.
        images: Folder that they are relative to.

    Raises:
        BrokenRecordError: If a picture is missing or outside the folder.
    """
    if not isinstance(record, Mapping):
        raise BrokenRecordError("malformed", f"a record is an object, got {record!r:.80}")
    named = record.get("image")
    names = [] if named is None else named if isinstance(named, list) else [named]
    files = []
    for name in names:
        if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
            raise BrokenRecordError("malformed", f"'image' must be a path within {str(images)!r}, got {name!r:.80}")
        if not (images / name).is_file():
            raise BrokenRecordError("missing picture", f"there is no picture {str(images / name)!r}")
        files.append(images / name)
    return files


def dialogue_of(record: Any, images: Path) -> list[dict[str, Any]]:
    """Return a record as the messages that the processor renders.

    Args:
        record: The record.
        images: Folder that its pictures are relative to.

    Raises:
        BrokenRecordError: If it is malformed, a picture is missing, or the numbers of marks and pictures differ.
    """
    pictures = pictures_of(record, images)
    turns = record.get("conversations")
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        raise BrokenRecordError("malformed", f"'conversations' must be a list of turns, got {turns!r:.80}")
    if turns and _ROLES.get(turns[0].get("from")) == "assistant":
        turns = turns[1:]  # some of LLaVA's start with an answer, which the authors drop, too
    marks = sum(str(turn.get("value")).count(_MARK) for turn in turns)
    if marks != len(pictures):
        raise BrokenRecordError("malformed", f"it has {len(pictures)} picture(s) and {marks} mark(s) {_MARK!r}")
    more = iter(pictures)
    messages = [_message(turn, more) for turn in turns]
    if not any(message["role"] == "assistant" for message in messages):
        raise BrokenRecordError("malformed", "it has no answer")
    return messages


def _message(turn: Mapping[str, Any], pictures: Any) -> dict[str, Any]:
    role, text = _ROLES.get(turn.get("from", "")), turn.get("value")
    if role is None or not isinstance(text, str):
        raise BrokenRecordError("malformed", f"a turn has 'from' ({', '.join(_ROLES)}) and 'value', got {turn!r:.80}")
    count = text.count(_MARK)
    text = text.replace(_MARK, "").strip()
    if role != "user":
        return {"role": role, "content": text}
    is_asked = bool(turn.get("draw"))
    if text.endswith(_TRIGGER):
        text, is_asked = text.removesuffix(_TRIGGER).rstrip(), True
    parts = [{"type": "image", "path": next(pictures)} for _ in range(count)]
    content: Any = [*parts, {"type": "text", "text": text}] if parts else text
    return {"role": role, "content": content, **({"draw": True} if is_asked else {})}


def summarise(record: Any) -> RecordSummary:
    """Return the approximate length of a record, without reading its pictures or tokenising it.

    Args:
        record: The record; a malformed one counts as empty.
    """
    turns = record.get("conversations") if isinstance(record, Mapping) else None
    turns = turns if isinstance(turns, list) else []
    texts = [str(turn.get("value")) for turn in turns if isinstance(turn, Mapping)]
    marks = sum(text.count(_MARK) for text in texts)
    return RecordSummary(marks, sum(map(len, texts)) // _CHARS_PER_TOKEN)
