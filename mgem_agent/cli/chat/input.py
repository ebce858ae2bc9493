'''Read the user's messages in `mgem chat`: from a terminal with line editing, or as lines from a pipe.

At a terminal Enter sends the message, Alt-Enter starts a new line, and pasted text is one message; between `"""` and
`"""` Enter also starts a new line. From a pipe each line, or each block between such marks, is a message.
'''

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mgem_agent.cli.display.typed_ahead import is_typed_ahead
from mgem_agent.cli.incoming_text import decoded_lines
from mgem_agent.cli.printing import echo
from mgem_agent.text_decoding import decode_text
from mgem_agent.user_files import user_path

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings

__all__ = [
    "PROMPT",
    "Reader",
    "open_reader",
]

MARK = '"""'
PROMPT, CONTINUATION = "› ", "  "
Complete = Callable[[str], tuple[str, list[str]]]


class Reader(Protocol):
    """Reads messages.

    Attributes:
        is_person: Whether the user types the messages at a terminal.
    """

    is_person: bool

    def read(self) -> str | None:
        """Return the next message, or None at the end.

        Raises:
            KeyboardInterrupt: If Ctrl-C was pressed on an empty line.
        """
        ...

    def edit(self, question: str, text: str) -> str | None:
        """Ask the user a question, with a default answer to edit; None without a terminal."""
        ...


def history_path() -> Path:
    """Return the path of the input history: in `MGEM_HOME`, or in the system's folder for program state."""
    import platformdirs

    home = os.environ.get("MGEM_HOME")
    folder = user_path(home) if home else platformdirs.user_state_path("mgem-agent", appauthor=False)
    return folder.absolute() / "chat_history"


def is_open_block(text: str) -> bool:
    """Whether text begins a block that is not closed yet."""
    text = text.strip()
    return text.startswith(MARK) and not (len(text) >= 2 * len(MARK) and text.endswith(MARK))


def without_marks(text: str) -> str:
    """Return a message without the marks around it."""
    text = text.strip()
    return text[len(MARK) : -len(MARK)].strip("\n") if text.startswith(MARK) and not is_open_block(text) else text


class LineReader:
    """Reads messages from a stream that is not a terminal.

    Args:
        stream: The lines.
    """

    is_person = False

    def __init__(self, stream: Iterable[str]) -> None:
        self._lines = self._messages(stream)

    def read(self) -> str | None:
        """Return the next message; blank lines are skipped."""
        return next(self._lines, None)

    def edit(self, question: str, text: str) -> str | None:
        """Return None, because the next line of the stream is a message and not an answer."""
        return None

    def _messages(self, stream: Iterable[str]) -> Iterator[str]:
        waiting = ""
        for line in stream:
            waiting += line
            if is_open_block(waiting):
                continue
            if message := without_marks(waiting):
                yield message
            waiting = ""
        if message := waiting.strip().removeprefix(MARK).strip():
            yield message


class DumbTerminalReader:
    """Reads messages at a terminal without cursor control (`TERM=dumb`), such as an editor's shell.

    Args:
        stream: The lines.
        write: Writes text without ending the line.
    """

    is_person = True

    def __init__(self, stream: Iterator[str], write: Callable[[str], None]) -> None:
        self._stream = stream
        self._write = write

    def read(self) -> str | None:
        """Prompt for a message and return it; lines between block marks are one message."""
        self._write(PROMPT)
        text = ""
        while (line := next(self._stream, None)) is not None:
            text += line
            if not is_open_block(text):
                return without_marks(text).rstrip("\n")
            self._write(CONTINUATION)
        return without_marks(text) if text else None

    def edit(self, question: str, text: str) -> str | None:
        """Ask a question; an empty answer returns the default, and the end of input returns None."""
        self._write(f"{question}[{text}] " if text else question)
        try:
            line = next(self._stream, None)
        except KeyboardInterrupt:
            return None
        return None if line is None else line.rstrip("\n") or text


class TerminalReader:
    """Reads messages at a terminal, with history, completion and several lines.

    Args:
        complete: Returns completions of a line; `["files"]` completes paths.
        history: Input history; the user's history file if not given.
    """

    is_person = True

    def __init__(self, complete: Complete, history: History | None = None) -> None:
        from prompt_toolkit import PromptSession

        self._session: PromptSession[str] = PromptSession(
            history=history or _history(),
            completer=_completer(complete),
            complete_while_typing=True,
            multiline=True,
            key_bindings=_keys(),
            prompt_continuation=CONTINUATION,
            enable_open_in_editor=True,
            reserve_space_for_menu=6,
        )

    def read(self) -> str | None:
        """Return the typed message; Ctrl-C clears a line that is not empty."""
        while True:
            try:
                return without_marks(self._session.prompt(PROMPT))
            except KeyboardInterrupt:
                if not self._session.default_buffer.text.strip():
                    raise
            except EOFError:
                return None

    def edit(self, question: str, text: str) -> str | None:
        """Ask a question, with a default answer to edit; None for Ctrl-C and Ctrl-D."""
        from prompt_toolkit import prompt

        try:
            return prompt(question, default=text)
        except (KeyboardInterrupt, EOFError):
            return None


def open_reader(complete: Complete) -> Reader:
    """Return the reader that suits standard input and the terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return LineReader(decoded_lines(sys.stdin))
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return DumbTerminalReader(_TypedLines(), lambda text: echo(text, nl=False))
    return TerminalReader(complete)


class _TypedLines:
    """Lines from a terminal; Ctrl-C during a line does not end the iteration."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        was_echoed = not is_typed_ahead(sys.stdin)
        line = sys.stdin.buffer.readline()
        if not line:
            raise StopIteration
        text = decode_text(line, "The line").text
        if not was_echoed:
            echo(text, nl=False)
        return text


def _history() -> History:
    """Return the user's history, or one in memory if the history file is not writable."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = history_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def _keys() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("enter")
    def _enter(event: Any) -> None:
        buffer = event.current_buffer
        if buffer.complete_state is not None and buffer.complete_state.current_completion is not None:
            buffer.complete_state = None
        elif is_open_block(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _alt_enter(event: Any) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def _completer(complete: Complete) -> Completer:
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
    from prompt_toolkit.document import Document

    files = PathCompleter(expanduser=True)

    class Commands(Completer):
        """Completes commands and their arguments."""

        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
            line = document.text_before_cursor
            if not line.startswith("/") or "\n" in line:
                return
            word, found = complete(line)
            if found == ["files"]:
                yield from files.get_completions(Document(word), complete_event)
                return
            for each in found:
                yield Completion(each, start_position=-len(word))

    return Commands()
