"""Text that comes into `mgem`: standard input and the arguments, decoded once, with a notice of replaced bytes."""

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
"""Marks of encodings whose line ends are no single byte."""


def read_piped() -> str:
    """Return what is piped in; nothing at a terminal."""
    return "" if sys.stdin.isatty() else "".join(decoded_lines(sys.stdin))


def decoded_lines(stream: IO[str]) -> Iterator[str]:
    """Return the lines of a stream as they come.

    Args:
        stream: Such as `sys.stdin`; its bytes are read where it has any.
    """
    data: IO[bytes] | None = getattr(stream, "buffer", None)
    if data is None:  # text that a caller has put in its place
        yield from stream
        return
    line = data.readline()
    if line.startswith(WIDE_MARKS):
        line += data.read()
    while line:
        yield from io.StringIO(_told(line, "Standard input"), newline=None)
        line = data.readline()


def decoded_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command as text; a name of a file keeps its bytes.

    Args:
        arguments: As Python has them, with a half character for each byte that is not UTF-8.
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
