from __future__ import annotations

from pathlib import Path

from PIL import Image

from mgem_agent.artifacts import encode_picture
from mgem_agent.artifacts.comparison import SAME_PICTURE, compare_picture


def test_a_picture_and_its_old_file(tmp_path: Path) -> None:
    red = encode_picture(Image.new("RGB", (8, 6), (255, 0, 0)))
    old = tmp_path / "old.png"
    old.write_bytes(red)
    assert compare_picture(red, old) == SAME_PICTURE
    Image.new("RGB", (8, 6), (255, 0, 0)).save(old, compress_level=0)
    assert compare_picture(red, old) == "the same pixels in another file"
    Image.new("RGB", (8, 6), (250, 0, 0)).save(old)
    assert compare_picture(red, old) == "another picture: pixels differ by up to 5 of 255"
    Image.new("RGB", (8, 8)).save(old)
    assert compare_picture(red, old) == "another picture: 8×6 pixels instead of 8×8"
