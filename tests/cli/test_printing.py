"""One layer between foreign text and the terminal."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from mgem_agent.cli import printing
from mgem_agent.cli.app import app
from mgem_agent.cli.display.plain import PlainTurnDisplay
from mgem_agent.cli.printing import echo, echo_json, open_console, short_message, write_json, write_text

ATTACK = "\x1b]0;PWN\x07\x9b2J\x1b[31mred\u202e"
KEY = "sk-very-secret-0123456789"


@pytest.mark.parametrize(
    "make",
    [
        lambda: ATTACK,
        lambda: Text(ATTACK),
        lambda: Markdown(f"# {ATTACK}\n\n[a](http://h/\x1b)"),
        lambda: _table(ATTACK),
    ],
    ids=["string", "text", "markdown", "table"],
)
def test_whatever_is_rendered_is_clean(make: Any) -> None:
    file = io.StringIO()
    open_console(file=file, width=60).print(make())
    written = file.getvalue()
    assert "red" in written
    assert [sign for sign in written if not sign.isprintable() and sign != "\n"] == []


def _table(text: str) -> Table:
    table = Table(text)
    table.add_row(text)
    return table


def test_our_own_colours_stay() -> None:
    file = io.StringIO()
    console = open_console(file=file, force_terminal=True, color_system="standard", no_color=False)
    console.print(Text("fox\x1b[31mred\u202e", style="green"))
    console.print("[bold]b[/]")
    assert file.getvalue() == "\x1b[32mfoxred\x1b[0m\n\x1b[1mb\x1b[0m\n"


def test_no_word_becomes_an_emoji() -> None:
    file = io.StringIO()
    open_console(file=file).print("http://h:fox:1", markup=False)
    assert file.getvalue() == "http://h:fox:1\n"


def test_secrets_are_hidden(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    open_console().print(f"{KEY} http://me:pw@h/")
    open_console().print(Text(KEY))
    echo(KEY)
    echo_json({"a": KEY})
    assert capsys.readouterr().out == '(hidden) http://me:(hidden)@h/\n(hidden)\n(hidden)\n{\n  "a": "(hidden)"\n}\n'


def test_json_keeps_every_value_and_steers_nothing() -> None:
    data = {"a": ATTACK, "b": "\ud83e 👨\u200d👩\n"}
    file = io.StringIO()
    write_json(file, data)
    line = file.getvalue()
    assert json.loads(line) == data
    assert line.count("\n") == 1 and line.removesuffix("\n").isprintable()


def test_plain_text_is_clean(capsys: pytest.CaptureFixture[str]) -> None:
    echo(f"{ATTACK}\n\tfox", err=True)
    file = io.StringIO()
    write_text(file, ATTACK)
    assert (capsys.readouterr().err, file.getvalue()) == ("red\n\tfox\n", "red")


def test_a_long_error_is_cut_in_its_middle() -> None:
    lines = short_message("\n".join(["first", *map(str, range(60_000)), "last"])).split("\n")
    assert len(lines) == 41 and (lines[0], lines[-1]) == ("first", "last")
    assert len(short_message("x" * 12_000_000)) < 9_000
    assert short_message("two\nlines") == "two\nlines"


@pytest.mark.parametrize("arguments", [(f"no{ATTACK}",), ("draw", f"--no{ATTACK}"), ("models", "check", f"/{ATTACK}")])
def test_an_argument_in_an_error_is_clean(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code in (1, 2)
    assert "red" in result.stderr
    assert [sign for sign in result.output if not sign.isprintable() and sign != "\n"] == []


def test_a_traceback_is_clean(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    printing.prepare_output()
    try:
        raise ValueError(f"{ATTACK} http://me:pw@h/")
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    said = capsys.readouterr().err
    assert said.endswith("ValueError: red http://me:(hidden)@h/\n") and "\x1b" not in said


def test_notices_wait_for_the_end_of_the_line() -> None:
    from mgem_agent.agent.events import AgentNotice, TextPiece

    both = io.StringIO()  # stdout and stderr of one terminal
    display = PlainTurnDisplay(both, open_console(file=both))
    for event in (TextPiece("A red"), AgentNotice("Something."), TextPiece(" fox.\nMore"), AgentNotice("Else.")):
        display.show(event)
    display.close()
    assert both.getvalue() == "A red fox.\nSomething.\nMore\nElse.\n"


@pytest.mark.parametrize("closed", ["1", "2"])
def test_a_closed_output_is_no_traceback(closed: str) -> None:
    command = f'"{sys.executable}" -m mgem_agent --version {closed}>&-'
    finished = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")


def test_nobody_writes_past_this_layer(root: Path) -> None:
    """`open_console`, `echo` and their kind are the only doors to a terminal."""
    wrong = []
    for path in sorted((root / "mgem_agent" / "cli").rglob("*.py")):
        if path.name in ("printing.py", "terminal_console.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in ("print", "Console", "typer.echo", "typer.prompt", "typer.confirm", "typer.secho"):
                    wrong.append(f"{path.name}:{node.lineno}: {called}")
                elif called.endswith(("out.write", "err.write", "file.write")) and "52;c" not in ast.unparse(node):
                    wrong.append(f"{path.name}:{node.lineno}: {called}")
    assert wrong == []
