r"""Records of dialogues about pictures, in the format that LLaVA and the Mini-Gemini data have.

A file is a JSON list or JSON lines of::

    {"id": "7", "image": "a.png", "conversations": [{"from": "human", "value": "<image>\nWhat is it?", "draw": false},
                                                    {"from": "gpt", "value": "A cat."}]}

`image` is optional and may be a list. As in the authors' training, a message's pictures come before its text, wherever
their marks are. A human turn asks for a picture if its text ends with `<GEN>` or if it has `"draw": true`. Marks that
do not match the pictures are repaired; `faithful` has the authors' own rules.

Only the offsets of the records are kept in memory; a record is read from the file when it is needed. An index next to
the file (`mgem data index`) has the offsets, so that the file is not scanned.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mgem_agent.errors import InputError
from mgem_agent.recipes.data.shards.index import RecordIndex, index_name
from mgem_agent.recipes.train.json_list import list_items

__all__ = [
    "CHARS_PER_TOKEN",
    "BrokenRecordError",
    "Images",
    "RecordFile",
    "RecordSource",
    "RecordSummary",
    "RepairedDialogue",
    "StoredRecord",
    "dialogue_of",
    "pictures_of",
    "repaired_dialogue",
    "summarise",
    "turns_of",
]

_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
_MARK = "<image>"
_TRIGGER = "<GEN>"
CHARS_PER_TOKEN = 4
"""Approximate characters of a token."""

Images = Path | tuple[bytes, ...]
"""Where the pictures of a record are: in a folder, or here, as the bytes of their files in the record's order."""


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
        num_chars: Characters of its turns.
    """

    num_images: int
    num_chars: int

    @property
    def num_text_tokens(self) -> int:
        """Approximate number of text tokens."""
        return self.num_chars // CHARS_PER_TOKEN


@dataclass(frozen=True)
class StoredRecord:
    """A record as it is stored.

    Args:
        text: Its JSON.
        images: Where its pictures are.
    """

    text: bytes
    images: Images

    def parse(self) -> Any:
        """Return the record.

        Raises:
            BrokenRecordError: If it is not JSON.
        """
        try:
            return json.loads(self.text)
        except ValueError as error:
            raise BrokenRecordError("not JSON", f"the line is not JSON: {error}") from error


class RecordSource(Protocol):
    """Records by index.

    Attributes:
        path: The file or folder, for messages.
        index: What is known of the records without reading them; None if nothing is.
        is_checked: Whether the index also says which records cannot be used.
    """

    path: Any
    index: RecordIndex | None
    is_checked: bool

    def __len__(self) -> int: ...

    def read(self, positions: Sequence[int]) -> list[StoredRecord]:
        """Return records, in the order of the positions."""
        ...


class RecordFile:
    """The records of one file, by index.

    Args:
        path: A `.json` list or `.jsonl` lines.
        images: Folder of the pictures; None for the folder of the file.
        use_index: Whether to use an index next to the file, if there is one.

    Attributes:
        path: The file.
        images: Folder of the pictures.
        index: Its index, if it is used.
        is_checked: False; pictures may be removed at any time.

    Raises:
        InputError: If the file cannot be read or is not a list of records, or changed after it was indexed.
    """

    is_checked = False

    def __init__(self, path: str | Path, images: str | Path | None = None, *, use_index: bool = True) -> None:
        self.path = Path(path)
        self.images = Path(images) if images is not None else self.path.parent
        self.index: RecordIndex | None = None
        self._places: Any = array("Q")
        self._lengths: Any = array("Q")
        try:
            indexed = self.path.with_name(index_name(self.path.name))
            if use_index and indexed.is_file():
                self._use(RecordIndex.from_bytes(indexed.read_bytes(), str(indexed)))
            else:
                self._read()
        except OSError as error:
            raise InputError(
                f"The data {str(path)!r} cannot be read: {error.strerror}. Create it with: mgem data"
            ) from error
        if not len(self):
            raise InputError(f"The data {str(path)!r} hold no record. Create them with: mgem data")

    def _use(self, index: RecordIndex) -> None:
        size = self.path.stat().st_size
        if index.files[0][1] != size:
            raise InputError(
                f"The data {str(self.path)!r} have {size:,} bytes, but {index.files[0][1]:,} when they were indexed. "
                f"Index them again: mgem data index {self.path}"
            )
        self.index, self._places, self._lengths = index, index.start, index.length

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
        return self.read([position])[0].parse()

    def read(self, positions: Sequence[int]) -> list[StoredRecord]:
        """Return records, in the order of the positions."""
        found = []
        with self.path.open("rb") as file:
            for position in positions:
                file.seek(int(self._places[position]))
                found.append(StoredRecord(file.read(int(self._lengths[position])), self.images))
        return found

    def make_index(self) -> RecordIndex:
        """Return an index of the file. Every record is read; the pictures are not."""
        rows = []
        for position in range(len(self)):
            try:
                summary = summarise(self[position])
            except BrokenRecordError:
                summary = RecordSummary(0, 0)
            place, length = int(self._places[position]), int(self._lengths[position])
            rows.append((0, place, length, summary.num_chars, summary.num_images))
        return RecordIndex.from_rows([(self.path.name, self.path.stat().st_size)], rows)


def pictures_of(record: Any, images: Images) -> list[Path | bytes]:
    """Return the pictures of a record: their files, or the bytes of these.

    As in the authors' code, a picture of OCR-VQA may be a `.png` where the record says `.jpg`, and Visual Genome's may
    be in a folder `images`.

    Args:
        record: The record.
        images: Where they are.

    Raises:
        BrokenRecordError: If a picture is missing or outside the folder.
    """
    if not isinstance(record, Mapping):
        raise BrokenRecordError("malformed", f"a record is an object, got {record!r:.80}")
    if not isinstance(images, Path):
        return _stored_pictures(record, images)
    files: list[Path | bytes] = []
    for name in _picture_names(record):
        if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
            raise BrokenRecordError("malformed", f"'image' must be a path within {str(images)!r}, got {name!r:.80}")
        found = next((images / other for other in _other_names(name) if (images / other).is_file()), None)
        if found is None:
            raise BrokenRecordError("missing picture", f"there is no picture {str(images / name)!r}")
        files.append(found)
    return files


def _stored_pictures(record: Mapping[str, Any], images: tuple[bytes, ...]) -> list[Path | bytes]:
    wanted = len(_picture_names(record))
    if "image" in record and wanted != len(images):
        raise BrokenRecordError(
            "missing picture", f"it names {wanted} picture(s), and {len(images)} are stored with it"
        )
    return list(images)


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


def repaired_dialogue(record: Any, images: Images) -> RepairedDialogue:
    """Return a record as messages, with one mark for each picture.

    Superfluous marks are dropped, marks in answers and in records without pictures too. Pictures without a mark come
    first in the first question. Whitespace at the ends of a turn is removed.

    Args:
        record: The record.
        images: Where its pictures are.

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


def dialogue_of(record: Any, images: Images) -> list[dict[str, Any]]:
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


def _message(turn: Mapping[str, Any], num_pictures: int, pictures: Iterator[Path | bytes]) -> dict[str, Any]:
    role, text = _ROLES[turn["from"]], turn["value"].replace(_MARK, "").strip()
    if role != "user":
        return {"role": role, "content": text}
    is_asked = bool(turn.get("draw"))
    if text.endswith(_TRIGGER):
        text, is_asked = text.removesuffix(_TRIGGER).rstrip(), True
    parts = [_image_part(next(pictures)) for _ in range(num_pictures)]
    content: Any = [*parts, {"type": "text", "text": text}] if parts else text
    return {"role": role, "content": content, **({"draw": True} if is_asked else {})}


def _image_part(picture: Path | bytes) -> dict[str, Any]:
    return {"type": "image", "path" if isinstance(picture, Path) else "image": picture}


def summarise(record: Any) -> RecordSummary:
    """Return the approximate length of a record, without reading its pictures or tokenising it.

    Args:
        record: The record; a malformed one counts as empty.
    """
    turns = record.get("conversations") if isinstance(record, Mapping) else None
    turns = turns if isinstance(turns, list) else []
    num_chars = sum(len(str(turn.get("value"))) for turn in turns if isinstance(turn, Mapping))
    num_images = len(_picture_names(record)) if isinstance(record, Mapping) else 0
    return RecordSummary(num_images, num_chars)
