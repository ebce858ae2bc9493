"""A contact sheet: pictures in rows, each with its caption below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from mgem_agent.errors import InputError

__all__ = ["contact_sheet"]

_FONT_PX = 14
_LINES = 4
_GAP_PX = 12


def contact_sheet(
    pictures: Sequence[Image.Image], captions: Sequence[str], *, columns: int = 6, cell_px: int = 200
) -> Image.Image:
    """Return the sheet.

    Args:
        pictures: Pictures of any size; small ones are enlarged.
        captions: One for each picture, cut to four lines.
        columns: Pictures in a row.
        cell_px: Longest side of a picture on the sheet.

    Raises:
        InputError: If there is no picture, or not one caption for each.
    """
    if not pictures or len(pictures) != len(captions):
        raise InputError(f"A contact sheet of {len(pictures)} pictures and {len(captions)} captions cannot be made.")
    font = ImageFont.load_default(_FONT_PX)
    line_px = round(_FONT_PX * 1.3)
    width, height = cell_px + _GAP_PX, cell_px + _LINES * line_px + _GAP_PX
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width + _GAP_PX, rows * height + _GAP_PX), "white")
    pen = ImageDraw.Draw(sheet)
    letters = max(1, int(cell_px / font.getlength("n")))
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = _GAP_PX + place % columns * width, _GAP_PX + place // columns * height
        scale = cell_px / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        sheet.paste(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC), (left, top))
        lines = textwrap.wrap(caption, letters, max_lines=_LINES, placeholder=" …")
        for number, line in enumerate(lines):
            pen.text((left, top + cell_px + 4 + number * line_px), line, fill="black", font=font)
    return sheet
