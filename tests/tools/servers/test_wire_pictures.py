from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import pytest
from PIL import Image

from mgem_agent.errors import GeneratorOutputError
from mgem_agent.tools.servers.wire_pictures import decode_picture, decode_picture_text, png_base64, png_bytes


def test_there_and_back() -> None:
    image = Image.radial_gradient("L").convert("RGB")
    assert decode_picture(png_bytes(image), source="S").tobytes() == image.tobytes()
    assert decode_picture_text(png_base64(image), source="S").tobytes() == image.tobytes()
    assert decode_picture_text("data:image/png;base64," + png_base64(image), source="S").size == image.size


def test_a_bomb_is_not_decoded() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(GeneratorOutputError, match="The server sent what is no picture: .*was not decoded") as caught:
        decode_picture(bomb, source="The server")
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "sent a 'NoneType' where a picture in base64 was due"),
        ("<html>", "sent '<html>' where a picture in base64 was due"),
        (base64.b64encode(b"hello").decode(), "not a picture of a known format"),
    ],
)
def test_what_is_no_picture(text: Any, message: str) -> None:
    with pytest.raises(GeneratorOutputError, match=message):
        decode_picture_text(text, source="The server")
