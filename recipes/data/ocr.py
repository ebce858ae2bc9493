"""The text of pictures, added to the questions about them (Mini-Gemini, appendix B; after TextVQA).

    <image>
    What is the total?
    Reference OCR token: Coffee 2.40, Total 2.40

It is for training records: at test time the model reads pictures itself. The text goes to the end of the human turn
that shows the picture. RapidOCR reads it, in several processes. The output has one record for each of the input, in the
same order, so an interrupted run continues behind the last one.
"""

from __future__ import annotations

import multiprocessing
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from mgem_agent.errors import InputError, MgemError, ToolError
from mgem_agent.extras import EXTRAS, require_packages
from mgem_agent.recipes.data.record_files import RecordWriter
from mgem_agent.recipes.train.records import BrokenRecordError, RecordFile, pictures_of
from mgem_agent.tools.reading import read_text, use_reading_threads
from mgem_agent.user_files import user_path

__all__ = ["OcrReport", "OcrSettings", "write_ocr"]

State = Literal["enriched", "no text found", "no picture", "has OCR text already", "not read"]

_PREFIX = "Reference OCR token: "
_MARK = "<image>"
_MARKUP = re.compile(r"</?h>|<GEN>|<image>", re.IGNORECASE)
_VERSION = 1
_CHUNK = 8
_CHUNKS_AHEAD = 4  # for each process, so that the memory does not grow with the file
_CACHED_PICTURES = 256


@dataclass(frozen=True)
class OcrSettings:
    """What is added.

    Args:
        min_confidence: Texts that were recognised with less confidence are left out; from 0 to 1.
        max_chars: Maximum characters added to a turn; further texts are left out. None for no limit.
    """

    min_confidence: float = 0.5
    max_chars: int | None = None


@dataclass
class OcrReport:
    """What became of the records.

    Args:
        states: Number of records of this run by state.
        num_done_before: Records of earlier runs.
        num_texts: Texts that were added.
        last_problem: Why the last picture that could not be read could not.
    """

    states: Counter[State] = field(default_factory=Counter)
    num_done_before: int = 0
    num_texts: int = 0
    last_problem: str = ""


@dataclass(frozen=True)
class _Enriched:
    record: dict[str, Any]
    state: State
    num_texts: int = 0
    problem: str = ""


def write_ocr(
    source: str | Path,
    out: str | Path,
    *,
    images: str | Path | None = None,
    settings: OcrSettings | None = None,
    num_processes: int = 1,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> OcrReport:
    """Add the text of their pictures to records; records of an earlier run are kept.

    Args:
        source: A `.json` list or `.jsonl` lines.
        out: The file of records to write, as `.jsonl`. Its pictures are those of the source.
        images: Folder of the pictures; None for the folder of the source.
        settings: What is added.
        num_processes: Processes that read; 1 reads in this one.
        report: Called with the number of records done, and of all.

    Returns:
        What became of the records. A record whose picture cannot be read is kept without text.

    Raises:
        InputError: If the source cannot be read, a line of it is not a record, or `out` was made with other settings.
        MissingDependencyError: If the extra `ocr` is not installed.
        ToolError: If the recognition fails.
    """
    require_packages("Reading text", *EXTRAS["ocr"])
    wanted = settings or OcrSettings()
    _check(wanted)
    path, target = user_path(source), user_path(out)
    if path.resolve() == target.resolve():
        raise InputError(f"The output {str(out)!r} is the input. Give another file.")
    records = RecordFile(path, images)
    noted = {
        "source": path.name, "records": len(records), "min_confidence": wanted.min_confidence,
        "max_chars": wanted.max_chars, "version": _VERSION,
    }  # fmt: skip
    found = OcrReport()
    with RecordWriter.open(target, noted) as writer:
        found.num_done_before = writer.num_records
        for enriched in _enriched(records, writer.num_records, wanted, num_processes):
            writer.write(enriched.record)
            found.states[enriched.state] += 1
            found.num_texts += enriched.num_texts
            found.last_problem = enriched.problem or found.last_problem
            report(writer.num_records, len(records))
    return found


def _check(settings: OcrSettings) -> None:
    if not 0 <= settings.min_confidence <= 1:
        raise InputError(f"min_confidence is {settings.min_confidence!r}. Allowed: from 0 to 1.")
    if settings.max_chars is not None and settings.max_chars < 1:
        raise InputError(f"max_chars is {settings.max_chars!r}. Give 1 or more, or None.")


def _enriched(records: RecordFile, first: int, settings: OcrSettings, num_processes: int) -> Iterator[_Enriched]:
    """Yield the records from the first on, in order."""
    chunks = (range(start, min(start + _CHUNK, len(records))) for start in range(first, len(records), _CHUNK))
    if num_processes == 1:
        for chunk in chunks:
            yield from (_enrich(records, position, settings) for position in chunk)
        return
    context = multiprocessing.get_context("spawn")  # the parent may have threads
    waiting: deque[Future[list[_Enriched]]] = deque()
    with ProcessPoolExecutor(num_processes, context, _Worker.start, (records, settings)) as pool:
        try:
            for chunk in chunks:
                waiting.append(pool.submit(_Worker.enrich, chunk))
                if len(waiting) >= _CHUNKS_AHEAD * num_processes:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class _Worker:
    """What a process of the pool keeps."""

    records: RecordFile
    settings: OcrSettings

    @classmethod
    def start(cls, records: RecordFile, settings: OcrSettings) -> None:
        cls.records, cls.settings = records, settings
        use_reading_threads(1)

    @classmethod
    def enrich(cls, positions: range) -> list[_Enriched]:
        return [_enrich(cls.records, position, cls.settings) for position in positions]


def _enrich(records: RecordFile, position: int, settings: OcrSettings) -> _Enriched:
    """Return a record with the text of its pictures."""
    try:
        record = records[position]
    except BrokenRecordError as error:
        raise InputError(
            f"Record {position} of {str(records.path)!r} cannot be read: {error}. Correct it, and run again."
        ) from error
    turns = record.get("conversations") if isinstance(record, dict) else None
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise InputError(
            f"Record {position} of {str(records.path)!r} has no 'conversations' with turns. Correct it, and run again."
        )
    questions = [turn for turn in turns if turn.get("from") in ("human", "user") and isinstance(turn.get("value"), str)]
    if not record.get("image") or not questions:
        return _Enriched(record, "no picture")
    if any(_PREFIX in turn["value"] for turn in questions):
        return _Enriched(record, "has OCR text already")
    try:
        texts = [_texts(picture, settings.min_confidence) for picture in pictures_of(record, records.images)]
    except ToolError:
        raise
    except MgemError as error:
        return _Enriched(record, "not read", problem=f"record {position}: {error}")
    return _added(record, questions, texts, settings.max_chars)


@lru_cache(maxsize=_CACHED_PICTURES)
def _texts(picture: Path | bytes, min_confidence: float) -> tuple[str, ...]:
    """Return the texts of a picture, without what marks pictures and captions in a dialogue."""
    lines = (_MARKUP.sub(" ", line.text).split() for line in read_text(picture, min_confidence=min_confidence).lines)
    return tuple(" ".join(words) for words in lines if words)


def _added(
    record: dict[str, Any], questions: list[dict[str, Any]], texts: list[tuple[str, ...]], max_chars: int | None
) -> _Enriched:
    """Add texts to the turns that show the pictures; pictures without a mark are shown in the first."""
    left, num_texts = list(texts), 0
    marks = [turn["value"].count(_MARK) for turn in questions]
    marks[0] += max(0, len(texts) - sum(marks))
    for turn, count in zip(questions, marks, strict=True):
        own = _fitting([text for picture in left[:count] for text in picture], max_chars)
        del left[:count]
        if own:
            num_texts += len(own)
            turn["value"] = f"{turn['value'].rstrip()}\n{_PREFIX}{', '.join(own)}"
    return _Enriched(record, "enriched" if num_texts else "no text found", num_texts)


def _fitting(texts: list[str], max_chars: int | None) -> list[str]:
    """Return the first texts that fit into a number of characters."""
    if max_chars is None:
        return texts
    kept: list[str] = []
    for text in texts:
        if len(", ".join([*kept, text])) > max_chars:
            break
        kept.append(text)
    return kept
