"""What a person sees of `mgem`: its help, its version, its errors and its exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mgem_agent import __version__
from mgem_agent.cli.app import ErrorReportingGroup, app
from mgem_agent.errors import CheckpointError

# A stand-in for the program: commands that fail in the ways that real ones do, run in a process of its own by `run`.
FAILING = """
import sys, time
from mgem_agent.cli import app as application
from mgem_agent.errors import ImageError

@application.app.command()
def known(): raise ImageError("No picture at 'a[b].png'. Give the path of a picture.")

@application.app.command()
def unknown(): raise KeyError("boom")

@application.app.command()
def wait(): print("ready", flush=True); time.sleep(60)

@application.app.command()
def talk():
    for number in range(100_000): print(number)

application.main()
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FAILING, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
    )


def test_without_arguments_it_helps() -> None:
    result = CliRunner().invoke(app, [])
    assert "Usage: mgem [OPTIONS] COMMAND [ARGS]..." in result.output
    assert "sees, reasons and draws" in result.output


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(flag: str) -> None:
    result = CliRunner().invoke(app, [flag])
    assert result.exit_code == 0
    for option in ("--version", "--debug", "--install-completion", "MGEM_DEBUG"):
        assert option in result.output


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"mgem-agent {__version__}\n")


@pytest.mark.parametrize("start", [["-m", "mgem_agent"], ["cli.py"]])
def test_the_other_ways_to_start_it(root: Path, start: list[str]) -> None:
    finished = subprocess.run(
        [sys.executable, *start, "--version"], capture_output=True, text=True, timeout=60, cwd=root
    )
    assert (finished.returncode, finished.stdout) == (0, f"mgem-agent {__version__}\n")


def test_an_error_is_one_line_on_stderr() -> None:
    finished = run("known")
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert finished.stderr == "Error: No picture at 'a[b].png'. Give the path of a picture.\n"


def test_an_error_that_nobody_meant_is_told_in_short_too() -> None:
    finished = run("unknown")
    assert finished.returncode == 1
    assert finished.stderr == "Error: Unexpected KeyError: 'boom'\nAdd --debug for the full traceback.\n"


@pytest.mark.parametrize("arguments", [["--debug", "known"], ["known", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(arguments: list[str]) -> None:
    finished = run(*arguments)
    assert finished.returncode == 1
    assert finished.stderr.startswith("Traceback (most recent call last):")
    assert finished.stderr.endswith("ImageError: No picture at 'a[b].png'. Give the path of a picture.\n")


def test_debug_by_the_environment() -> None:
    assert "Traceback" in run("known", MGEM_DEBUG="1").stderr
    assert "Traceback" not in run("known", MGEM_DEBUG="0").stderr


def test_a_command_that_is_not_understood() -> None:
    finished = run("knwon")
    assert finished.returncode == 2
    assert "No such command 'knwon'" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_ctrl_c_is_quiet() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", FAILING, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert process.stderr.read() == ""


@pytest.mark.parametrize("command", ["talk", "--help"])
def test_a_reader_that_goes_away_is_no_error(command: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    finished = subprocess.run(
        [sys.executable, "-c", FAILING, command], stdout=write_end, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(write_end)
    assert finished.stderr == ""
    assert finished.returncode == 1


def test_the_shell_can_complete() -> None:
    finished = run("", _MGEM_COMPLETE="complete_bash", COMP_WORDS="mgem kn", COMP_CWORD="1")
    assert finished.stdout.split() == ["known"]


def test_a_message_of_many_lines_keeps_them() -> None:
    small = typer.Typer(cls=ErrorReportingGroup)

    @small.callback()
    def options(debug: bool = False) -> None: ...

    @small.command()
    def check() -> None:
        raise CheckpointError("It is not whole.", missing=["a" * 150, "b"])

    result = CliRunner().invoke(small, ["check"])
    assert result.exit_code == 1
    assert result.stderr == f"Error: It is not whole.\n2 missing:\n  {'a' * 150}\n  b\n"


def test_what_follows_two_dashes_is_no_option() -> None:
    small = typer.Typer(cls=ErrorReportingGroup)

    @small.callback()
    def options(debug: bool = False) -> None: ...

    @small.command()
    def echo(words: list[str]) -> None:
        typer.echo(" ".join(words))

    assert CliRunner().invoke(small, ["echo", "--debug", "--", "say", "--debug"]).output == "say --debug\n"


def test_nothing_but_the_error_is_on_stderr_when_torch_is_loaded() -> None:
    finished = run("models", "check", "no-such-folder")
    assert finished.returncode == 1
    assert finished.stderr.startswith("Error: There is no folder 'no-such-folder'.")
    assert finished.stderr.count("\n") == 1
