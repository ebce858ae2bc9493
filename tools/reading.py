"""Reading the text in a picture: optical character recognition by RapidOCR.

Its models (PP-OCRv6, for Chinese and Latin script) are part of its wheel, so no network is needed. They are loaded at
first use and shared by all threads, one picture at a time.

RapidOCR scales pictures down to 2,000 pixels a side. A very long one loses its text this way, without an error. So a
larger picture is read in overlapping tiles of that size. If two tiles have the same line, the longer one is kept.
"""

from __future__ import annotations

import importlib
import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import InputError, ToolError
from mgem_agent.extras import explain_missing, is_installed

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ReadText", "TextLine", "can_read_text", "read_text", "use_reading_threads"]

PACKAGES = ("rapidocr", "onnxruntime")

TILE_PX = 2000
"""Side of a tile, and of the largest picture that is read whole: the limit of RapidOCR."""
OVERLAP_PX = 200
"""What neighbouring tiles share: more than the height of a line."""
MAX_TILES = 64
"""Maximum number of tiles of a picture; the rest of a larger picture is not read, and a notice says so."""
MAX_RATIO = 8
"""How much longer than wide a tile is at most; a narrower one is widened by its edge."""

_Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""
_READING = threading.Lock()


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line of text in a picture.

    Attributes:
        text: The recognised text.
        confidence: Confidence of the recognition, from 0 to 1.
        box: The upright rectangle around it: left, top, right and bottom in pixels of the picture, from its upper left
            corner; right and bottom are the first pixels outside.
    """

    text: str
    confidence: float
    box: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class ReadText:
    """The text in a picture.

    Attributes:
        lines: In reading order: rows from top to bottom, each from left to right. Columns are read across.
        width: Width of the picture in pixels; the boxes refer to it.
        height: Height of the picture in pixels.
        notices: Sentences that name what was not read.
    """

    lines: tuple[TextLine, ...]
    width: int
    height: int
    notices: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The whole text: one line for each row, its parts separated by spaces."""
        return "\n".join(" ".join(line.text for line in row) for row in _rows(self.lines))


def can_read_text() -> bool:
    """Whether the packages that `read_text` needs are installed; nothing is imported."""
    return all(map(is_installed, PACKAGES))


def read_text(image: Any, *, min_confidence: float = 0.5) -> ReadText:
    """Read the text in a picture.

    A picture with a side above 2,000 pixels is read in overlapping tiles of that size, so that small letters stay
    readable. Letters taller than the overlap of 200 pixels may be lost where tiles meet.

    Args:
        image: Anything that `load_image` reads: a path, bytes, a data URL, a PIL image, an array.
        min_confidence: Lines with a lower confidence are left out; from 0 to 1.

    Returns:
        The lines and the size that their boxes refer to; no lines if there is no text. Its notices name what was not
        read.

    Raises:
        InputError: If `min_confidence` is out of its range.
        ImageError: If it is not a picture.
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
    tiles = _tiles(*picture.size)
    found: list[tuple[TextLine, _Box]] = []
    for tile in tiles[:MAX_TILES]:
        found += [(line, tile) for line in _read_tile(picture, tile, min_confidence)]
    lines = _without_doubles(found)
    notices = []
    if len(tiles) > MAX_TILES:
        notices.append(
            f"The picture of {picture.width}×{picture.height} pixels was not read to its end: {MAX_TILES} of its "
            f"{len(tiles)} parts of {TILE_PX} pixels a side were read, in reading order. Cut it up to read the rest."
        )
    return ReadText(tuple(line for row in _rows(lines) for line in row), *picture.size, tuple(notices))


def _tiles(width: int, height: int) -> list[_Box]:
    """Return the tiles of a picture, row by row."""
    return [
        (left, top, min(left + TILE_PX, width), min(top + TILE_PX, height))
        for top in _starts(height)
        for left in _starts(width)
    ]


def _starts(side: int) -> list[int]:
    """Return where tiles begin along a side; the last one ends at the end of the side."""
    if side <= TILE_PX:
        return [0]
    step = TILE_PX - OVERLAP_PX
    return [*range(0, side - TILE_PX, step), side - TILE_PX]


def _read_tile(picture: Image, tile: _Box, min_confidence: float) -> list[TextLine]:
    """Read a part of a picture; boxes are those in the whole picture."""
    with explain_missing("Reading text"):
        import numpy as np

    left, top, right, bottom = tile
    width, height = right - left, bottom - top
    pixels = np.asarray(picture.crop(tile))[:, :, ::-1]  # it takes blue, green, red
    pad_x, pad_y = (max(0, math.ceil(long / MAX_RATIO) - short) for short, long in ((width, height), (height, width)))
    pixels = np.pad(pixels, ((0, pad_y), (0, pad_x), (0, 0)), mode="edge")
    with _READING:
        reader = _reader()
        try:
            found = reader(np.ascontiguousarray(pixels))
        except Exception as error:  # OpenCV, ONNX Runtime and RapidOCR have no common error class
            raise ToolError(
                f"The text of the picture ({picture.width}×{picture.height} pixels) could not be read "
                f"({type(error).__name__}: {error}). Give another picture, or a part of this one."
            ) from error
    if found.boxes is None or found.txts is None or found.scores is None:
        return []
    return [
        TextLine(text, float(score), _moved(_box(corners, width, height), left, top))
        for corners, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
        if text.strip() and score >= min_confidence
    ]


def _moved(box: _Box, x: int, y: int) -> _Box:
    left, top, right, bottom = box
    return left + x, top + y, right + x, bottom + y


def _without_doubles(found: Sequence[tuple[TextLine, _Box]]) -> list[TextLine]:
    """Leave out duplicates: lines with half of their box inside a longer line of another tile."""
    kept: list[tuple[TextLine, _Box]] = []
    for line, tile in sorted(found, key=lambda each: _area(each[0].box), reverse=True):
        doubles = (
            other for other, its_tile in kept if its_tile != tile and _shared(line.box, other.box) > _area(line.box) / 2
        )
        if next(doubles, None) is None:
            kept.append((line, tile))
    return [line for line, _ in kept]


def _area(box: _Box) -> int:
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])


def _shared(one: _Box, other: _Box) -> int:
    """Return the area of the intersection of two boxes."""
    return _area((max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])))


def use_reading_threads(num_threads: int) -> None:
    """Set the number of threads that read a picture in this process; the default is one per core.

    Args:
        num_threads: Number of threads. With several processes, one each is fastest.
    """
    _OPTIONS["EngineConfig.onnxruntime.intra_op_num_threads"] = num_threads
    _reader.cache_clear()


# Without these options, it would log to the terminal and apply its own confidence threshold.
_OPTIONS: dict[str, Any] = {"Global.log_level": "critical", "Global.text_score": 0.0}


@cache
def _reader() -> Any:
    """Return RapidOCR's models; imported here, because they belong to an extra."""
    with explain_missing("Reading text"):
        rapidocr, _ = map(importlib.import_module, PACKAGES)
    return rapidocr.RapidOCR(params=dict(_OPTIONS))


def _box(corners: np.ndarray[Any, Any], width: int, height: int) -> _Box:
    """Return the rectangle around four corners (4, 2) = (x, y), clipped to the picture."""
    left, top = map(math.floor, corners.min(axis=0))
    right, bottom = map(math.ceil, corners.max(axis=0))
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def _rows(lines: Iterable[TextLine]) -> list[list[TextLine]]:
    """Group lines into rows: a line belongs to a row if its middle is within the height of the row's first line."""
    rows: list[list[TextLine]] = []
    for line in sorted(lines, key=lambda line: line.box[1] + line.box[3]):
        middle = (line.box[1] + line.box[3]) / 2
        if rows and rows[-1][0].box[1] <= middle < rows[-1][0].box[3]:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [sorted(row, key=lambda line: line.box[0]) for row in rows]
