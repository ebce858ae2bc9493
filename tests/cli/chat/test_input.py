from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from mgem_agent.cli.chat.input import (
    DumbTerminalReader,
    LineReader,
    TerminalReader,
    history_path,
    is_open_block,
    open_reader,
    without_marks,
)


def read_all(text: str) -> list[str]:
    reader, found = LineReader(io.StringIO(text)), []
    while (message := reader.read()) is not None:
        found.append(message)
    return found


def test_lines_and_blocks_of_a_pipe() -> None:
    assert read_all('one\n\n two \n"""\nthree\n\nfour\n"""\nfive') == ["one", "two", "three\n\nfour", "five"]
    assert read_all('"""one line"""\n"""never\nclosed\n') == ["one line", "never\nclosed"]
    assert read_all("") == []
    assert LineReader(io.StringIO("yes\n")).edit("Draw it?", "") is None, "the next line is a message, no answer"


def test_marks_of_a_block() -> None:
    assert [is_open_block(text) for text in ('"""', '"""a', '"""a"""', "a", '""""""')] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert without_marks('"""\na\n"""') == "a"
    assert without_marks(' a "quoted" word ') == 'a "quoted" word'


@pytest.fixture
def keyboard() -> Iterator[PipeInput]:
    with create_pipe_input() as keyboard, create_app_session(input=keyboard, output=DummyOutput()):
        yield keyboard


@pytest.fixture
def typed(keyboard: PipeInput) -> Callable[[str], str | None]:
    history = InMemoryHistory()

    def read(keys: str) -> str | None:
        keyboard.send_text(keys)
        return TerminalReader(lambda line: (line, []), history).read()

    return read


def test_enter_sends_and_alt_enter_begins_a_line(typed: Callable[[str], str | None]) -> None:
    assert typed("one\r") == "one"
    assert typed("one\x1b\rtwo\r") == "one\ntwo"
    assert typed('"""\rone\r\rtwo\r"""\r') == "one\n\ntwo"
    assert typed("\x1b[200~pasted\nlines\n\x1b[201~and more\r") == "pasted\nlines\nand more"


def test_history_and_the_end(typed: Callable[[str], str | None]) -> None:
    assert typed("a first\r") == "a first"
    assert typed("\x1b[A\r") == "a first"
    assert typed("\x04") is None


def test_ctrl_c_clears_a_line_and_is_told_where_there_is_none(typed: Callable[[str], str | None]) -> None:
    assert typed("half a line\x03whole\r") == "whole"
    with pytest.raises(KeyboardInterrupt):
        typed("\x03")


def test_a_line_that_is_begun(keyboard: PipeInput) -> None:
    reader = TerminalReader(lambda line: (line, []), InMemoryHistory())
    keyboard.send_text(" at night\r")
    assert reader.edit("Caption: ", "a fox") == "a fox at night"
    keyboard.send_text("\x03")
    assert reader.edit("Caption: ", "a fox") is None


def test_what_was_typed_is_kept_for_the_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keyboard: PipeInput
) -> None:
    monkeypatch.setenv("MGEM_HOME", str(tmp_path / "home"))
    keyboard.send_text("a fox\r")
    assert TerminalReader(lambda line: (line, [])).read() == "a fox"
    path = tmp_path / "home" / "chat_history"
    assert path == history_path()
    assert "+a fox" in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    (tmp_path / "file").touch()
    monkeypatch.setenv("MGEM_HOME", str(tmp_path / "file"))
    keyboard.send_text("a hen\r")
    assert TerminalReader(lambda line: (line, [])).read() == "a hen", "a history that cannot be kept is done without"


def test_a_dumb_terminal_asks_with_a_mark() -> None:
    written: list[str] = []
    lines = iter(["hello\n", '"""\n', "two\n", "lines\n", '"""\n', "y\n", "\n"])
    reader = DumbTerminalReader(lines, written.append)
    assert [reader.read(), reader.read()] == ["hello", "two\nlines"]
    assert [reader.edit("Draw it? ", ""), reader.edit("Caption: ", "a fox")] == ["y", "a fox"]
    assert [reader.read(), reader.edit("Draw it? ", "")] == [None, None]
    assert written == ["› ", "› ", "  ", "  ", "  ", "Draw it? ", "Caption: [a fox] ", "› ", "Draw it? "]
    assert reader.is_person and not LineReader(io.StringIO("")).is_person


@pytest.mark.parametrize(
    ("terminal", "kind"), [("dumb", DumbTerminalReader), ("xterm-256color", TerminalReader), (None, LineReader)]
)
def test_what_reads_follows_from_the_terminal(
    monkeypatch: pytest.MonkeyPatch, keyboard: PipeInput, terminal: str | None, kind: type
) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return terminal is not None

    monkeypatch.setattr("sys.stdin", Screen())
    monkeypatch.setattr("sys.stdout", Screen())
    monkeypatch.setenv("TERM", terminal or "dumb")
    assert type(open_reader(lambda line: (line, []))) is kind
