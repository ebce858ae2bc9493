"""Decode standard input and command-line arguments, with a notice if bytes were replaced."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator, Sequence
from typing import IO

from mgem_agent.cli.printing import echo
from mgem_agent.text_decoding import SURROGATE, decode_text

__all__ = ["decoded_arguments", "decoded_lines", "read_piped"]

OPTIONS_OF_NEW_FILES = ("--out", "-o", "--store")
WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""Byte-order marks of encodings in which a line end is more than one byte."""


def read_piped() -> str:
    """Return the piped input; empty at a terminal."""
    return "" if sys.stdin.isatty() else "".join(decoded_lines(sys.stdin))


def decoded_lines(stream: IO[str]) -> Iterator[str]:
    """Yield the lines of a stream as they arrive.

    Args:
        stream: A stream such as `sys.stdin`. Its underlying bytes are read, if it has a buffer.
    """
    data: IO[bytes] | None = getattr(stream, "buffer", None)
    if data is None:  # a text stream that a caller substituted
        yield from stream
        return
    line = data.readline()
    if line.startswith(WIDE_MARKS):
        line += data.read()
    while line:
        yield from io.StringIO(_told(line, "Standard input"), newline=None)
        line = data.readline()


def decoded_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command as text. File names keep their bytes.

    Args:
        arguments: The arguments from `sys.argv`, with a lone surrogate for each byte that is not UTF-8.
    """
    found: list[str] = []
    for place, argument in enumerate(arguments):
        name, is_set, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
        is_new_file = (name if is_set else arguments[place - 1] if place else "") in OPTIONS_OF_NEW_FILES
        if SURROGATE.search(argument) is None or is_new_file or os.path.exists(value):
            found.append(argument)
        else:
            found.append(_told(os.fsencode(argument), "An argument"))
    return found


def _told(data: bytes, source: str) -> str:
    text, notice = decode_text(data, source)
    if notice is not None:
        echo(notice, err=True)
    return text
