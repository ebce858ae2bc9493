from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from mgem_agent.cli.display.pictures import PictureWindow

fcntl = pytest.importorskip("fcntl", reason="needs a terminal of its own")
pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")

PROGRAM = """
import sys
from rich.console import Console
from mgem_agent.cli.display.pictures import PictureWindow
console = Console(width=40, height=20)
window = PictureWindow(console, sys.argv[1])
print("shown as", window.shown_as)
window.show(sys.argv[2], "[1]")
"""


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "p.png"
    Image.new("RGB", (64, 64), (255, 0, 0)).save(path)
    return path


@pytest.mark.parametrize("wanted", ["auto", "sixel", "kitty", "blocks", "path"])
def test_a_pipe_gets_the_path_whatever_is_wanted(wanted: Any, picture: Path) -> None:
    console = Console(file=io.StringIO(), width=30)
    window = PictureWindow(console, wanted)
    window.show(picture, "[1]")
    assert window.shown_as == "path"
    assert console.file.getvalue() == f"[1]  {picture}\n"  # type: ignore[attr-defined]


def test_nothing_is_nothing(picture: Path) -> None:
    console = Console(file=io.StringIO())
    PictureWindow(console, "none").show(picture)
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]


def in_terminal(wanted: str, picture: Path, rows: int = 20, **environment: str) -> str:
    """What a program writes to a terminal that answers nothing."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 40 if rows else 0, 0, 0))
    names = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, wanted, str(picture)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**names, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environment},
    ) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            written += piece
    os.close(ours)
    assert process.returncode == 0, written
    return written.decode()


def test_a_terminal_that_answers_nothing_gets_blocks(picture: Path) -> None:
    text = in_terminal("auto", picture)
    assert "shown as blocks" in text
    assert text.count("▀") == 32 * 16, "the 16 rows that are free, and as many pixels across, though it has but 64"
    assert "38;2;255;0;0" in text
    assert str(picture) in text


def test_no_color_gets_the_path(picture: Path) -> None:
    text = in_terminal("blocks", picture, NO_COLOR="1")
    assert "shown as path" in text
    assert "▀" not in text
    assert str(picture) in text


def test_a_terminal_without_a_size_gets_the_path(picture: Path) -> None:
    assert "shown as path" in in_terminal("blocks", picture, rows=0)


def test_a_picture_that_is_gone_is_named(tmp_path: Path) -> None:
    text = in_terminal("blocks", tmp_path / "gone.png")
    assert "gone.png" in text
    assert "Traceback" not in text
