"""All output of `mgem` passes through this module, which removes control sequences and secrets.

`open_console` is for coloured text, `echo` for plain text, `echo_json` for data, `ask` and `confirm` for questions.
A test checks that no other code of the command line prints directly.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from typing import IO, TYPE_CHECKING, Any

import typer

from mgem_agent.redaction import redact, without_secrets
from mgem_agent.text_decoding import clean_text
from mgem_agent.tools.printable_text import terminal_text

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "ask",
    "confirm",
    "echo",
    "echo_json",
    "open_console",
    "prepare_output",
    "print_error",
    "show_log",
    "shown",
    "write_json",
    "write_text",
]

MAX_ERROR_LINES = 40
MAX_ERROR_CHARS = 8_000


def open_console(*, stderr: bool = False, soft_wrap: bool = False, **options: Any) -> Console:
    """Return a console on stdout or stderr that removes control characters from text.

    Args:
        stderr: Whether it writes to stderr.
        soft_wrap: Whether the terminal wraps long lines instead of rich.
        **options: Further arguments of `rich.console.Console`.
    """
    from mgem_agent.cli.terminal_console import TerminalConsole

    return TerminalConsole(stderr=stderr, soft_wrap=soft_wrap, **options)


def shown(text: object) -> str:
    """Return text that is safe to print: without control sequences and known secrets."""
    return without_secrets(terminal_text(str(text)))


def echo(text: object = "", *, nl: bool = True, err: bool = False) -> None:
    """Write plain text.

    Args:
        text: The text.
        nl: Whether to end the line.
        err: Whether to write to stderr.
    """
    typer.echo(shown(text), nl=nl, err=err)


def write_text(file: IO[str], text: str) -> None:
    """Write plain text to an open file and flush it."""
    file.write(shown(text))
    file.flush()


def echo_json(data: Any) -> None:
    """Write data as indented JSON to stdout."""
    typer.echo(_json(data, indent=2))


def write_json(file: IO[str], data: Any) -> None:
    """Write data as one line of JSON to an open file and flush it."""
    file.write(_json(data, indent=None) + "\n")
    file.flush()


def ask(question: str, default: str) -> str:
    """Ask the user on stderr for a line of text.

    Args:
        question: The question.
        default: The result of an empty answer.
    """
    answer = typer.prompt(shown(question), default=shown(default), err=True)
    return default if answer == shown(default) else clean_text(str(answer))


def confirm(question: str, *, abort: bool = False) -> bool:
    """Ask the user on stderr for yes or no. An empty answer is no.

    Args:
        question: The question.
        abort: Whether the answer no ends the command.
    """
    return typer.confirm(shown(question), abort=abort, err=True)


def print_error(message: str) -> None:
    """Write a message to stderr after a red "Error:", without line wrapping, so that scripts can read it."""
    console = open_console(stderr=True, soft_wrap=True)
    console.print("Error: ", style="bold red", end="")
    console.print(short_message(message), markup=False)


def short_message(message: str) -> str:
    """Return an error message, with the middle cut out if it is very long.

    Args:
        message: The message.
    """
    lines = message.split("\n")
    if len(lines) > MAX_ERROR_LINES:
        kept, last = lines[: MAX_ERROR_LINES - 1], lines[-1]
        lines = [*kept, f"  … {len(lines) - MAX_ERROR_LINES} more lines …", last]
    text = "\n".join(lines)
    if len(text) > MAX_ERROR_CHARS:
        half = MAX_ERROR_CHARS // 2
        text = f"{text[:half]} … {len(text) - MAX_ERROR_CHARS:,} more characters … {text[-half:]}"
    return text


class _LogHandler(logging.Handler):
    """Writes this package's warnings to stderr, without the module name."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a warning."""
        echo(redact(record.getMessage()), err=True)


def show_log() -> None:
    """Print the warnings that this package logs, cleaned like all other output."""
    log = logging.getLogger("mgem_agent")
    if not any(isinstance(handler, _LogHandler) for handler in log.handlers):
        log.addHandler(_LogHandler(logging.WARNING))


def prepare_output() -> None:
    """Let stdout and stderr accept any character, and open any standard stream that the caller has closed.

    Tracebacks, shown with `--debug`, are cleaned like all other output.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")
    sys.excepthook = _print_traceback


def _print_traceback(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    print(redact(terminal_text(text)), file=sys.stderr, end="")


def _json(data: Any, *, indent: int | None) -> str:
    """Data as JSON with unprintable characters escaped, which keeps the values and is safe for a terminal."""
    text = without_secrets(json.dumps(data, ensure_ascii=False, indent=indent))
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign == "\n" else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    return json.dumps(sign)[1:-1]
