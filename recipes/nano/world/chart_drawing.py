"""Drawing a bar chart or a pie with its labels."""

from __future__ import annotations

from PIL import Image, ImageDraw

from mgem_agent.recipes.nano.world.fonts import font_for_capitals
from mgem_agent.recipes.nano.world.scene_parts import INK_COLOURS, Chart

__all__ = ["chart_label_boxes", "draw_chart"]

_MAX_VALUE = 9
_SCALE = 2
_DARK = INK_COLOURS["black"]
_LABEL_HEIGHT = 0.038  # of a capital letter: 10 px of 256
_BASE, _LEFT, _RIGHT = 0.84, 0.1, 0.96  # of the bars
_MARK = 0.025  # half the side of a mark in the legend of a pie


def draw_chart(image: Image.Image, chart: Chart) -> None:
    """Draw a chart over a whole picture.

    Args:
        image: Square picture, RGB; it is changed.
        chart: The chart.
    """
    large = image.resize((image.width * _SCALE, image.height * _SCALE), Image.Resampling.NEAREST)
    (_draw_bars if chart.kind == "bar" else _draw_pie)(large, chart)
    image.paste(large.reduce(_SCALE))


def chart_label_boxes(chart: Chart, size_px: int = 256) -> list[tuple[float, float, float, float]]:
    """Return the box of each printed label of a chart: left, top, right and bottom, from 0 to 1.

    Args:
        chart: The chart.
        size_px: Width and height of the picture.
    """
    side = size_px * _SCALE
    font = font_for_capitals(_LABEL_HEIGHT * side)
    boxes = []
    for index, part in enumerate(chart.parts):
        position, anchor = _label_place(chart, index, side)
        left, top, right, bottom = font.getbbox(part.label, anchor=anchor)
        x, y = position
        boxes.append(((x + left) / side, (y + top) / side, (x + right) / side, (y + bottom) / side))
    return boxes


def _label_place(chart: Chart, index: int, side: int) -> tuple[tuple[float, float], str]:
    """Return the position of a label in a picture of a given side, and its anchor there."""
    if chart.kind == "bar":
        room = (_RIGHT - _LEFT) / len(chart.parts)
        return ((_LEFT + (index + 0.5) * room) * side, (_BASE + 0.03) * side), "mt"
    x, y = _mark_place(index)
    return ((x + 2 * _MARK) * side, y * side), "lm"


def _mark_place(index: int) -> tuple[float, float]:
    return 0.12 + 0.44 * (index % 2), 0.76 + 0.12 * (index // 2)


def _draw_bars(image: Image.Image, chart: Chart) -> None:
    side, pen = image.width, ImageDraw.Draw(image)
    font = font_for_capitals(_LABEL_HEIGHT * side)
    base, top, left, right = _BASE * side, 0.14 * side, _LEFT * side, _RIGHT * side
    for value in (3, 6, 9):
        y = base - (base - top) * value / _MAX_VALUE
        pen.line((left, y, right, y), fill=(206, 206, 212), width=max(1, side // 256))
    room = (right - left) / len(chart.parts)
    for index, part in enumerate(chart.parts):
        middle, half = left + (index + 0.5) * room, 0.3 * room
        y = base - (base - top) * part.value / _MAX_VALUE
        pen.rectangle((middle - half, y, middle + half, base), fill=INK_COLOURS[part.colour])
        pen.text((middle, y - 0.012 * side), str(part.value), font=font, fill=_DARK, anchor="mb")
        place, anchor = _label_place(chart, index, side)
        pen.text(place, part.label, font=font, fill=_DARK, anchor=anchor)
    pen.line((left, base, right, base), fill=_DARK, width=max(1, side // 128))
    pen.line((left, base, left, top), fill=_DARK, width=max(1, side // 128))


def _draw_pie(image: Image.Image, chart: Chart) -> None:
    side, pen = image.width, ImageDraw.Draw(image)
    font = font_for_capitals(_LABEL_HEIGHT * side)
    total, start = sum(part.value for part in chart.parts), -90.0
    box = (0.2 * side, 0.05 * side, 0.8 * side, 0.65 * side)
    for index, part in enumerate(chart.parts):
        end = start + 360 * part.value / total
        pen.pieslice(box, start, end, fill=INK_COLOURS[part.colour], outline=(255, 255, 255), width=max(1, side // 128))
        start = end
        x, y = (edge * side for edge in _mark_place(index))
        mark = _MARK * side
        pen.rectangle((x - mark, y - mark, x + mark, y + mark), fill=INK_COLOURS[part.colour])
        place, anchor = _label_place(chart, index, side)
        pen.text(place, part.label, font=font, fill=_DARK, anchor=anchor)
