from __future__ import annotations

import struct
import zlib

import pytest
from PIL import Image

from mgem_agent.errors import GeneratorOutputError
from mgem_agent.tools.servers.wire_pictures import decode_picture, png_bytes


def test_there_and_back() -> None:
    image = Image.radial_gradient("L").convert("RGB")
    assert decode_picture(png_bytes(image), source="S").tobytes() == image.tobytes()


def test_a_bomb_is_not_decoded() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(GeneratorOutputError, match="The server sent an invalid picture: .*was not decoded") as caught:
        decode_picture(bomb, source="The server")
    assert caught.value.retryable
