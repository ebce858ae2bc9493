"""Tests of reading the encoded bytes of a picture, with bounds."""

from __future__ import annotations

import base64
import io
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgem_agent.core_model import encoded_picture
from mgem_agent.core_model.encoded_picture import data_url_bytes, read_file, read_open_file
from mgem_agent.errors import ImageError


@given(data=st.binary(max_size=200), cut=st.integers(3, 9))
def test_escapes_are_decoded_wherever_the_pieces_are_cut(data: bytes, cut: int) -> None:
    url = "data:," + "".join(f"%{byte:02X}" if byte % 3 else f"%{byte:02x}" for byte in data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoded_picture, "UNQUOTED_AT_ONCE", cut)
        assert data_url_bytes(url) == data
        assert data_url_bytes("data:;base64," + base64.b64encode(data).decode().replace("=", "%3D")) == data


@pytest.mark.parametrize("text", ["%", "%4", "%zz", "%%41", "a%", "\ud800", "ü"])
def test_odd_escapes_are_left_as_they_are(text: str) -> None:
    assert data_url_bytes(f"data:,{text}")


def test_a_url_that_is_too_long_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded_picture, "MAX_URL_CHARS", 100)
    with pytest.raises(
        ImageError,
        match=r"^The data URL has 101 characters, and was not read\. It may have at most 100\. Scale the picture down",
    ):
        data_url_bytes("data:," + "a" * 95)


def test_escapes_are_counted_before_they_are_decoded() -> None:
    url = "data:," + "%00" * (encoded_picture.MAX_URL_ESCAPES + 1)
    tracemalloc.start()
    with pytest.raises(ImageError, match=r"has 4,000,001 escapes such as '%20', .* Encode the picture in base64\.$"):
        data_url_bytes(url)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_few_escapes_need_little_memory() -> None:
    url = "data:," + "%00" * 400_000
    tracemalloc.start()
    assert len(data_url_bytes(url)) == 400_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80 * 2**20  # all at once they take 230 bytes each


def test_a_sparse_file_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(60 * 2**30)
    with pytest.raises(
        ImageError, match=r"sparse\.png' has 64,424,509,440 bytes, and was not read\. A picture may have"
    ):
        read_file(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
def test_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    for is_swapped in (False, True):  # as if it had been a file when it was looked at first
        if is_swapped:
            monkeypatch.setattr("os.path.isfile", lambda _: True)
        with pytest.raises(ImageError, match=r"pipe\.png' is not a regular file\. Give the path of a picture\.$"):
            read_file(path)


def test_an_open_file_is_read_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_open_file(io.BytesIO(b"abc")) == b"abc"

    class Endless(io.RawIOBase):
        """Gives whatever is asked for."""

        def read(self, size: int = -1, /) -> bytes:
            assert size >= 0
            return b"x" * size

    monkeypatch.setattr(encoded_picture, "MAX_ENCODED_BYTES", 10)
    with pytest.raises(ImageError, match=r"^The open file has 11 bytes, and was not read\."):
        read_open_file(Endless())


def test_base64_may_be_broken_into_lines() -> None:
    assert data_url_bytes("DATA:image/png;BASE64,QUJD\r\n REVG\t") == b"ABCDEF"
    for text in ("QUJ", "QU=JD", "QU!D"):
        with pytest.raises(ImageError, match=r"^The data after 'base64,' is not valid base64\."):
            data_url_bytes(f"data:;base64,{text}")
