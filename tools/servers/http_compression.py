"""Responses that are compressed although the client did not accept it.

One layer of gzip or deflate is decompressed, piece by piece and within a byte limit. Anything else is refused: a few
kilobytes that are compressed twice, or by a newer method, can expand to gigabytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator

import httpx

__all__ = ["AnswerTooLongError", "is_packed", "unpacked"]

PIECE_BYTES = 64 * 2**10


class AnswerTooLongError(httpx.TransportError):
    """An answer of more bytes than are read."""


def is_packed(headers: httpx.Headers) -> bool:
    """Return whether an answer is compressed, and make its headers those of the unpacked one.

    Raises:
        httpx.DecodingError: If it is compressed in a way that is not read.
    """
    codings = [name.strip().lower() for name in headers.get("content-encoding", "").split(",")]
    codings = [name for name in codings if name not in ("", "identity")]
    if not codings:
        return False
    if codings not in (["gzip"], ["x-gzip"], ["deflate"]):
        raise httpx.DecodingError(
            f"the answer is compressed ({', '.join(codings)[:60]}), which the client did not accept"
        )
    del headers["content-encoding"]
    headers.pop("content-length", None)
    return True


def unpacked(pieces: Iterable[bytes], check: Callable[[], object], *, max_bytes: int) -> Iterator[bytes]:
    """Unpack gzip or deflate.

    Args:
        pieces: The packed answer as it comes.
        check: Called before each piece is unpacked; raises where there is no time left.
        max_bytes: Most bytes of the unpacked answer.

    Yields:
        The answer, at most `PIECE_BYTES` at a time.

    Raises:
        httpx.DecodingError: If it is damaged.
        AnswerTooLongError: If it is longer than allowed.
    """
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
    size = 0
    for packed in pieces:
        left = packed
        while left:
            check()
            try:
                piece = unpacker.decompress(left, PIECE_BYTES)
            except zlib.error as error:
                raise httpx.DecodingError(f"the compressed answer is damaged: {error}") from error
            size += len(piece)
            if size > max_bytes:
                raise AnswerTooLongError(f"The answer has more than {max_bytes:,} bytes when decompressed.")
            if piece:
                yield piece
            left = unpacker.unconsumed_tail
            if unpacker.eof:
                left = unpacker.unused_data
                unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
