"""What is typed while a turn runs."""

from __future__ import annotations

import io
import os

import pytest

from mgem_agent.cli.display.typed_ahead import is_typed_ahead, without_echo

pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")


def test_nothing_is_echoed_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r") as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        before = termios.tcgetattr(theirs)
        with without_echo():
            assert not termios.tcgetattr(theirs)[3] & termios.ECHO
            assert termios.tcgetattr(theirs)[3] & termios.ISIG, "Ctrl-C is a signal as before"
            os.write(ours, b"typed ahead\n")
            os.write(theirs, b"answer\n")
            assert os.read(ours, 100) == b"answer\r\n"
        assert termios.tcgetattr(theirs) == before
        assert is_typed_ahead(terminal)
        assert terminal.readline() == "typed ahead\n"
        assert not is_typed_ahead(terminal)
    os.close(ours)


def test_without_a_terminal_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("x"))
    with without_echo():
        pass
