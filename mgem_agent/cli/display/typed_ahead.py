"""Handle text typed while a turn runs: it is kept for the next message, and not echoed into the answer."""

from __future__ import annotations

import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

__all__ = ["is_typed_ahead", "without_echo"]


@contextmanager
def without_echo() -> Iterator[None]:
    """Turn off the terminal's echo of typed characters. Ctrl-C still works, and typed text is kept.

    This does nothing if standard input is not a terminal, or the system has no such setting.
    """
    terminal = _terminal()
    if terminal is None:
        yield
        return
    termios, handle, before = terminal
    silent = termios.tcgetattr(handle)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(handle, termios.TCSANOW, silent)
    try:
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSANOW, before)


def is_typed_ahead(stream: IO[Any]) -> bool:
    """Whether a line was typed before the prompt appeared, and so was not echoed.

    Args:
        stream: A terminal.
    """
    try:
        return bool(select.select([stream], [], [], 0)[0])
    except (OSError, ValueError):  # Windows, where `select` works only on sockets; a stream without a handle
        return False


def _terminal() -> tuple[Any, int, Any] | None:
    """Return `termios`, the handle of standard input and its settings; None if stdin is not a terminal."""
    try:
        import termios
    except ImportError:  # Windows
        return None
    try:
        handle = sys.stdin.fileno()
        return termios, handle, termios.tcgetattr(handle)
    except (OSError, ValueError, termios.error):  # a pipe, or a stream that a caller substituted
        return None
