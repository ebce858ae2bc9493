r"""Records of dialogues about pictures, in the format that LLaVA and the Mini-Gemini data have.

A file is a JSON list or JSON lines of::

    {"id": "7", "image": "a.png", "conversations": [{"from": "human", "value": "<image>\nWhat is it?", "draw": false},
                                                    {"from": "gpt", "value": "A cat."}]}

`image` is optional and may be a list. As in the authors' training, a message's pictures come before its text, wherever
their marks are. A human turn asks for a picture if its text ends with `<GEN>` or if it has `"draw": true`. Marks that
do not match the pictures are repaired; `faithful` has the authors' own rules.

Only the offsets of the records are kept in memory; a record is read from the file when it is needed.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgem_agent.errors import InputError
from mgem_agent.recipes.train.json_list import list_items

__all__ = [
    "BrokenRecordError",
    "RecordFile",
    "RecordSummary",
    "RepairedDialogue",
    "dialogue_of",
    "pictures_of",
    "repaired_dialogue",
    "summarise",
    "turns_of",
]

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
        self._places = array("Q")
        self._lengths = array("Q")
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
                        self._lengths.append(len(line))
                    place += len(line)
            return
        try:
            with self.path.open("rb") as file:
                for place, item in list_items(file):
                    self._places.append(place)
                    self._lengths.append(len(item))
        except ValueError as error:
            raise InputError(
                f"The data {str(self.path)!r} are not a JSON list: {error}. One record a line? Name it .jsonl"
            ) from error

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, position: int) -> Any:
        """Return a record as the file has it.

        Raises:
            BrokenRecordError: If its line is not JSON.
        """
        with self.path.open("rb") as file:
            file.seek(self._places[position])
            line = file.read(self._lengths[position])
        try:
            return json.loads(line)
        except ValueError as error:
            raise BrokenRecordError("not JSON", f"the line is not JSON: {error}") from error


def pictures_of(record: Any, images: Path) -> list[Path]:
    """Return the files of a record's pictures.

    As in the authors' code, a picture of OCR-VQA may be a `.png` where the record says `.jpg`, and Visual Genome's may
    be in a folder `images`.

    Args:
        record: The record.
        images: Folder that they are relative to.

    Raises:
        BrokenRecordError: If a picture is missing or outside the folder.
    """
    if not isinstance(record, Mapping):
        raise BrokenRecordError("malformed", f"a record is an object, got {record!r:.80}")
    files = []
    for name in _picture_names(record):
        if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
            raise BrokenRecordError("malformed", f"'image' must be a path within {str(images)!r}, got {name!r:.80}")
        found = next((images / other for other in _other_names(name) if (images / other).is_file()), None)
        if found is None:
            raise BrokenRecordError("missing picture", f"there is no picture {str(images / name)!r}")
        files.append(found)
    return files


def _picture_names(record: Mapping[str, Any]) -> list[Any]:
    named = record.get("image")
    return [] if named is None else named if isinstance(named, list) else [named]


def _other_names(name: str) -> Iterator[str]:
    yield name
    if "ocr" in name:
        yield name.replace(".jpg", ".png")
    elif "VG_100K" in name:
        yield name.replace("VG_100K_2", "images").replace("VG_100K", "images")


def turns_of(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the turns of a record; an answer before the first question is left out, as in the authors' code.

    Args:
        record: The record.

    Raises:
        BrokenRecordError: If they are malformed.
    """
    turns = record.get("conversations")
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        raise BrokenRecordError("malformed", f"'conversations' must be a list of turns, got {turns!r:.80}")
    for turn in turns:
        if turn.get("from", "") not in _ROLES or not isinstance(turn.get("value"), str):
            allowed = ", ".join(_ROLES)
            raise BrokenRecordError("malformed", f"a turn has 'from' ({allowed}) and 'value', got {turn!r:.80}")
    return turns[1:] if turns and _ROLES[turns[0]["from"]] == "assistant" else turns


@dataclass(frozen=True)
class RepairedDialogue:
    """A record as messages.

    Args:
        messages: The messages that the processor renders.
        repairs: What was wrong with the marks of the pictures.
    """

    messages: list[dict[str, Any]]
    repairs: tuple[str, ...]


def repaired_dialogue(record: Any, images: Path) -> RepairedDialogue:
    """Return a record as messages, with one mark for each picture.

    Superfluous marks are dropped, marks in answers and in records without pictures too. Pictures without a mark come
    first in the first question. Whitespace at the ends of a turn is removed.

    Args:
        record: The record.
        images: Folder that its pictures are relative to.

    Raises:
        BrokenRecordError: If it is malformed, or a picture is missing.
    """
    pictures = pictures_of(record, images)
    turns = turns_of(record)
    shown, repairs = _shown_pictures(turns, len(pictures))
    more = iter(pictures)
    messages = [_message(turn, count, more) for turn, count in zip(turns, shown, strict=True)]
    _check_roles([message["role"] for message in messages])
    return RepairedDialogue(messages, repairs)


def _check_roles(roles: list[str]) -> None:
    """Check that questions and answers alternate, after an optional system message."""
    rounds = roles[1:] if roles[:1] == ["system"] else roles
    if "assistant" not in rounds:
        raise BrokenRecordError("malformed", "it has no answer")
    for place, role in enumerate(rounds):
        if role != ("user", "assistant")[place % 2]:
            raise BrokenRecordError("malformed", f"questions and answers must alternate, got {', '.join(roles)}")


def dialogue_of(record: Any, images: Path) -> list[dict[str, Any]]:
    """Return the messages of `repaired_dialogue`."""
    return repaired_dialogue(record, images).messages


def _shown_pictures(turns: Sequence[Mapping[str, Any]], num_pictures: int) -> tuple[list[int], tuple[str, ...]]:
    """Return the number of pictures that each turn shows, and what was repaired."""
    repairs = []
    marks = [turn["value"].count(_MARK) for turn in turns]
    is_question = [_ROLES[turn["from"]] == "user" for turn in turns]
    if any(count for count, asks in zip(marks, is_question, strict=True) if not asks):
        repairs.append("mark in an answer")
    left, shown = num_pictures, []
    for count, asks in zip(marks, is_question, strict=True):
        shown.append(min(count, left) if asks else 0)
        left -= shown[-1]
    if sum(marks) > num_pictures and num_pictures == 0:
        repairs.append("mark without a picture")
    elif sum(count for count, asks in zip(marks, is_question, strict=True) if asks) > num_pictures:
        repairs.append("more marks than pictures")
    if left and True in is_question:
        shown[is_question.index(True)] += left
        repairs.append("picture without a mark")
    return shown, tuple(repairs)


def _message(turn: Mapping[str, Any], num_pictures: int, pictures: Iterator[Path]) -> dict[str, Any]:
    role, text = _ROLES[turn["from"]], turn["value"].replace(_MARK, "").strip()
    if role != "user":
        return {"role": role, "content": text}
    is_asked = bool(turn.get("draw"))
    if text.endswith(_TRIGGER):
        text, is_asked = text.removesuffix(_TRIGGER).rstrip(), True
    parts = [{"type": "image", "path": next(pictures)} for _ in range(num_pictures)]
    content: Any = [*parts, {"type": "text", "text": text}] if parts else text
    return {"role": role, "content": content, **({"draw": True} if is_asked else {})}


def summarise(record: Any) -> RecordSummary:
    """Return the approximate length of a record, without reading its pictures or tokenising it.

    Args:
        record: The record; a malformed one counts as empty.
    """
    turns = record.get("conversations") if isinstance(record, Mapping) else None
    turns = turns if isinstance(turns, list) else []
    num_chars = sum(len(str(turn.get("value"))) for turn in turns if isinstance(turn, Mapping))
    num_images = len(_picture_names(record)) if isinstance(record, Mapping) else 0
    return RecordSummary(num_images, num_chars // _CHARS_PER_TOKEN)
