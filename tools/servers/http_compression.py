"""Responses that are compressed although the client did not accept it.

One layer of gzip or deflate is decompressed, piece by piece and within a byte limit. Anything else is refused: a few
kilobytes that are compressed twice, or by a newer method, can expand to gigabytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator

import httpx

__all__ = ["AnswerTooLongError", "decompressed", "is_compressed"]

PIECE_BYTES = 64 * 2**10


class AnswerTooLongError(httpx.TransportError):
    """The answer is larger than allowed."""


def is_compressed(headers: httpx.Headers) -> bool:
    """Return whether an answer is compressed, and adapt its headers to the decompressed body.

    Raises:
        httpx.DecodingError: If its compression is not supported.
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


def decompressed(pieces: Iterable[bytes], check: Callable[[], object], *, max_bytes: int) -> Iterator[bytes]:
    """Decompress gzip or deflate.

    Args:
        pieces: The pieces of the compressed answer.
        check: Called before each piece is decompressed; raises an error if no time is left.
        max_bytes: Maximum size of the decompressed answer.

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
