"""What a person types while a turn runs: it waits for the next question, and is not echoed into the answer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["without_echo"]


@contextmanager
def without_echo() -> Iterator[None]:
    """Turn off the terminal's echo of typed characters; Ctrl-C works as before, and what is typed is kept.

    Where standard input is no terminal, or the system has no such setting, this does nothing.
    """
    try:
        import termios

        handle = sys.stdin.fileno()
        before = termios.tcgetattr(handle)
    except (ImportError, OSError, ValueError, AttributeError):  # Windows, a pipe, a stream of a test
        yield
        return
    except termios.error:
        yield
        return
    silent = termios.tcgetattr(handle)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(handle, termios.TCSANOW, silent)
    try:
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSANOW, before)
