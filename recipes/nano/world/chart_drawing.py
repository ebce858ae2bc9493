"""Drawing a bar chart or a pie with its labels."""

from __future__ import annotations

from PIL import Image, ImageDraw

from mgem_agent.recipes.nano.world.fonts import font_for_capitals
from mgem_agent.recipes.nano.world.scene_parts import INK_COLOURS, Chart

__all__ = ["draw_chart"]

_MAX_VALUE = 9
_SCALE = 2
_DARK = INK_COLOURS["black"]
_LABEL_HEIGHT = 0.038  # of a capital letter: 10 px of 256


def draw_chart(image: Image.Image, chart: Chart) -> None:
    """Draw a chart over a whole picture.

    Args:
        image: Square picture, RGB; it is changed.
        chart: The chart.
    """
    large = image.resize((image.width * _SCALE, image.height * _SCALE), Image.Resampling.NEAREST)
    (_draw_bars if chart.kind == "bar" else _draw_pie)(large, chart)
    image.paste(large.reduce(_SCALE))


def _draw_bars(image: Image.Image, chart: Chart) -> None:
    side, pen = image.width, ImageDraw.Draw(image)
    font = font_for_capitals(_LABEL_HEIGHT * side)
    base, top, left, right = 0.84 * side, 0.14 * side, 0.1 * side, 0.96 * side
    for value in (3, 6, 9):
        y = base - (base - top) * value / _MAX_VALUE
        pen.line((left, y, right, y), fill=(206, 206, 212), width=max(1, side // 256))
    room = (right - left) / len(chart.parts)
    for index, part in enumerate(chart.parts):
        middle, half = left + (index + 0.5) * room, 0.3 * room
        y = base - (base - top) * part.value / _MAX_VALUE
        pen.rectangle((middle - half, y, middle + half, base), fill=INK_COLOURS[part.colour])
        pen.text((middle, y - 0.012 * side), str(part.value), font=font, fill=_DARK, anchor="mb")
        pen.text((middle, base + 0.03 * side), part.label, font=font, fill=_DARK, anchor="mt")
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
        x, y = (0.12 + 0.44 * (index % 2)) * side, (0.76 + 0.12 * (index // 2)) * side
        mark = 0.025 * side
        pen.rectangle((x - mark, y - mark, x + mark, y + mark), fill=INK_COLOURS[part.colour])
        pen.text((x + 2 * mark, y), part.label, font=font, fill=_DARK, anchor="lm")
