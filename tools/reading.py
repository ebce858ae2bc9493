"""Reading the text in a picture: optical character recognition by RapidOCR.

Its models (PP-OCRv6, for Chinese and Latin script) come inside its wheel, so that reading works without a network. They
are loaded at first use and shared by all threads, one picture at a time.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import InputError, MissingDependencyError, ToolError

__all__ = ["ReadText", "TextLine", "can_read_text", "read_text"]

PACKAGES = ("rapidocr", "onnxruntime")
_READING = threading.Lock()


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line of text in a picture.

    Attributes:
        text: What it says.
        confidence: How sure the recognition is, from 0 to 1.
        box: The upright rectangle around it: left, top, right and bottom in pixels of the picture, from its upper left
            corner; right and bottom are the first pixels outside.
    """

    text: str
    confidence: float
    box: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class ReadText:
    """What a picture says.

    Attributes:
        lines: In reading order: rows from top to bottom, each from left to right. Columns are read across.
        width: Pixels of the picture, as the boxes count them.
        height: Pixels.
    """

    lines: tuple[TextLine, ...]
    width: int
    height: int

    @property
    def text(self) -> str:
        """The whole text: a line for each row, with a space between what stands side by side."""
        return "\n".join(" ".join(line.text for line in row) for row in _rows(self.lines))


def can_read_text() -> bool:
    """Whether the packages that `read_text` needs are installed; nothing is loaded."""
    return all(importlib.util.find_spec(name) is not None for name in PACKAGES)


def read_text(image: Any, *, min_confidence: float = 0.5) -> ReadText:
    """Read the text in a picture.

    A picture with a side above 2,000 pixels is read scaled down to that; cut it up where its letters are small.

    Args:
        image: Whatever `load_image` reads: a path, bytes, a data URL, a PIL image, an array.
        min_confidence: Lines that are less sure than this are left out; from 0 to 1.

    Returns:
        Its lines and the size that their boxes refer to; no lines where there is no text.

    Raises:
        InputError: If `min_confidence` is out of its range.
        ImageError: If it is no picture.
        MissingDependencyError: If the extra `ocr` is not installed.
        ToolError: If the recognition fails.

    Examples:
        >>> from mgem_agent.tools import read_text
        >>> read_text("receipt.png").text.splitlines()  # doctest: +SKIP
        ['Coffee 2.40', 'Total 2.40']
    """
    if not 0 <= min_confidence <= 1:
        raise InputError(f"min_confidence is {min_confidence!r}. Allowed: from 0 to 1.")
    picture = load_image(image)
    pixels = np.ascontiguousarray(np.asarray(picture)[:, :, ::-1])  # it takes blue, green, red
    with _READING:
        reader = _reader()
        try:
            found = reader(pixels)
        except Exception as error:  # of OpenCV, ONNX Runtime or RapidOCR, which have no error in common
            raise ToolError(
                f"The text of the picture ({picture.width}×{picture.height} pixels) could not be read "
                f"({type(error).__name__}: {error}). Give another picture, or a part of this one."
            ) from error
    if found.boxes is None or found.txts is None or found.scores is None:
        return ReadText((), *picture.size)
    lines = [
        TextLine(text, float(score), _box(corners, *picture.size))
        for corners, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
        if text.strip() and score >= min_confidence
    ]
    return ReadText(tuple(line for row in _rows(lines) for line in row), *picture.size)


@cache
def _reader() -> Any:
    """The models; imported by name, since they are an extra."""
    try:
        rapidocr, _ = (importlib.import_module(name) for name in PACKAGES)
    except ImportError as error:
        raise MissingDependencyError("Reading text", error.name or PACKAGES[0], "ocr") from error
    # It would log to the terminal, and leave out unsure lines by a measure of its own.
    return rapidocr.RapidOCR(params={"Global.log_level": "critical", "Global.text_score": 0.0})


def _box(corners: np.ndarray[Any, Any], width: int, height: int) -> tuple[int, int, int, int]:
    """The rectangle around four corners (4, 2) = (x, y), within the picture."""
    left, top = np.floor(corners.min(axis=0)).astype(int)
    right, bottom = np.ceil(corners.max(axis=0)).astype(int)
    return max(int(left), 0), max(int(top), 0), min(int(right), width), min(int(bottom), height)


def _rows(lines: Iterable[TextLine]) -> list[list[TextLine]]:
    """Put lines side by side into one row: those whose middle is within the height of the row's first line."""
    rows: list[list[TextLine]] = []
    for line in sorted(lines, key=lambda line: line.box[1] + line.box[3]):
        middle = (line.box[1] + line.box[3]) / 2
        if rows and rows[-1][0].box[1] <= middle < rows[-1][0].box[3]:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [sorted(row, key=lambda line: line.box[0]) for row in rows]
