"""The items of a JSON list, one at a time, with their places in the file: a list of gigabytes needs no memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO

__all__ = ["list_items"]

_READ_BYTES = 2**22


def list_items(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and the bytes of each item of a JSON list.

    The bytes are searched as Latin-1 text, in which every byte is one character: so a character's index is a byte's
    offset, and nothing of UTF-8 looks like JSON's own characters.

    Args:
        file: The file, from its beginning.

    Raises:
        ValueError: If it is not a complete JSON list.
    """
    window = _Window(file)
    if window.next_character(" \t\r\n") != "[":
        raise ValueError("it does not begin with '['")
    window.place += 1
    while window.next_character(" \t\r\n,") != "]":
        start = window.offset + window.place
        yield start, window.next_value().encode("latin-1")
    if (window.text[window.place + 1 :] + file.read().decode("latin-1")).strip():
        raise ValueError("there is more after the list")


class _Window:
    """The part of a file that is being searched.

    Args:
        file: The file.

    Attributes:
        text: The part, as Latin-1.
        offset: Its offset in the file.
        place: Index in it of the next character.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.text, self.offset, self.place = "", 0, 0
        self._file = file
        self._decode = json.JSONDecoder().raw_decode

    def _has_more(self) -> bool:
        """Read on; return whether there was anything."""
        more = self._file.read(max(_READ_BYTES, len(self.text) - self.place))
        self.text = self.text[self.place :] + more.decode("latin-1")
        self.offset, self.place = self.offset + self.place, 0
        return bool(more)

    def next_character(self, skipped: str) -> str:
        """Return the next character that is not one of those to skip."""
        while True:
            while self.place < len(self.text) and self.text[self.place] in skipped:
                self.place += 1
            if self.place < len(self.text):
                return self.text[self.place]
            if not self._has_more():
                raise ValueError("the list does not end")

    def next_value(self) -> str:
        """Return the text of the value that begins here, and go behind it."""
        while True:
            try:
                _, end = self._decode(self.text, self.place)
                if end == len(self.text):
                    raise ValueError("the list does not end")  # a number or word may continue
            except ValueError:
                if not self._has_more():
                    raise
                continue
            value, self.place = self.text[self.place : end], end
            return value
