from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.eval.contact_sheet import contact_sheet


def test_pictures_stand_in_rows_with_captions_beneath() -> None:
    pictures = [Image.new("RGB", size, "blue") for size in ((16, 16), (32, 16), (16, 32))]
    sheet = contact_sheet(pictures, ["a fox", "an owl " * 40, ""], columns=2, cell_px=60)
    assert sheet.width == 2 * 72 + 12
    assert sheet.getpixel((12, 12)) == (0, 0, 255)
    pixels = np.asarray(sheet.convert("L"))
    first, second = pixels[74:144, 12:72], pixels[74:144, 84:144]
    assert 0 < (first < 128).sum() < (second < 128).sum()
    assert sheet.height == 2 * (60 + 72 + 12) + 12
    row = 12 + 60 + 72 + 12
    assert sheet.getpixel((12, row + 59)) == (0, 0, 255)


def test_each_picture_needs_a_caption() -> None:
    with pytest.raises(InputError, match="0 pictures and 0 captions cannot be made"):
        contact_sheet([], [])
    with pytest.raises(InputError, match="1 pictures and 0 captions"):
        contact_sheet([Image.new("RGB", (8, 8))], [])
