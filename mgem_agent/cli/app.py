"""The application `mgem`: its options, its sub-commands, and how errors are shown.

Each sub-command has its own module, registered at the end of this file. These modules import torch, transformers,
diffusers and langchain only when a command runs, because `mgem --help` and shell completion import all of them.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mgem_agent import __version__
from mgem_agent.cli import (
    ask,
    bench,
    config,
    data,
    doctor,
    draw,
    eval,
    generators,
    images,
    mcp,
    models,
    see,
    serve,
    sessions,
    story,
    train,
)
from mgem_agent.cli.chat import chat
from mgem_agent.cli.incoming_text import decoded_arguments
from mgem_agent.cli.printing import echo, prepare_output, print_error, show_log, shown
from mgem_agent.deferred_imports import deferred_imports
from mgem_agent.errors import MgemError
from mgem_agent.extras import missing_package
from mgem_agent.nano.foreign_warnings import TALKATIVE

__all__ = ["app", "main"]

_COLLECTED_AFTER = 100_000
"""New objects after which Python looks for unreachable cycles. At its own 700, that takes a tenth of the start."""


class ErrorReportingGroup(TyperGroup):
    """Commands whose errors end as a short message on stderr and exit status 1.

    `--debug`, or `MGEM_DEBUG=1` in the environment, shows the traceback instead. The option may appear anywhere on the
    line, so that it can be added to the end of a command that has just failed.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Decode the arguments and move `--debug` to the front; arguments after a bare `--` are left alone."""
        args = decoded_arguments(args)
        end = args.index("--") if "--" in args else len(args)
        if "--debug" in args[:end]:
            args = ["--debug", *(arg for arg in args[:end] if arg != "--debug"), *args[end:]]
        return super().parse_args(ctx, args)

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Read the command line; an error that quotes it contains no control characters."""
        try:
            return super().make_context(*args, **extra)
        except typer.TyperException as error:
            raise _printable(error)  # noqa: B904 (it is the same error)

    def invoke(self, ctx: Any) -> Any:
        """Run the command and report its errors."""
        try:
            return super().invoke(ctx)
        except typer.TyperException as error:
            raise _printable(error)  # noqa: B904 (it is the same error)
        except (typer.Abort, typer.Exit, BrokenPipeError):
            raise  # Typer handles these: exit codes, a closed pipe
        except Exception as error:
            if ctx.params["debug"]:
                raise
            missing = missing_package(error, f"'mgem {ctx.invoked_subcommand}'")
            if missing is not None or isinstance(error, MgemError):
                print_error(str(missing or error))
            else:
                print_error(f"Unexpected {type(error).__name__}: {error}\nAdd --debug for the full traceback.")
            raise typer.Exit(1) from error


def _printable(error: Any) -> Any:
    """A usage error whose message is cleaned like all other output."""
    message = shown(error.format_message())
    error.format_message = lambda: message
    return error


app = typer.Typer(
    name="mgem",
    cls=ErrorReportingGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> None:
    """Print the version and exit, when `--version` is given."""
    if wanted:
        echo(f"mgem-agent {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="MGEM_DEBUG", help="Show the full traceback of an error.")
    ] = False,
) -> None:
    """Mini-Gemini at the command line: a vision-language model that sees, reasons and draws."""
    show_log()
    if not debug:
        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.ERROR)


def main() -> None:
    """Run `mgem` with the arguments of the process, then exit.

    Exit status: 0 on success, 1 after an error, 2 for a command line that is not valid, 130 after Ctrl-C.
    """
    prepare_output()
    gc.set_threshold(_COLLECTED_AFTER)
    try:
        with deferred_imports():
            app(prog_name="mgem")
    finally:
        _flush_output()


def _flush_output() -> None:
    """Flush stdout here, so that a closed pipe does not end in a traceback."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# The sub-commands, one module each, in the panels of `mgem --help`.
_TALK, _STORED, _MODELS = "Talk and draw", "Stored data and setup", "Models"
app.command("chat", rich_help_panel=_TALK)(chat.chat)
app.command("ask", rich_help_panel=_TALK)(ask.ask)
app.command("draw", rich_help_panel=_TALK)(draw.draw)
app.add_typer(story.app, name="story", rich_help_panel=_TALK)
app.command("see", rich_help_panel=_TALK)(see.see)
app.command("serve", rich_help_panel=_TALK)(serve.serve)
app.command("mcp", rich_help_panel=_TALK)(mcp.mcp)
app.add_typer(images.app, name="images", rich_help_panel=_STORED)
app.add_typer(sessions.app, name="sessions", rich_help_panel=_STORED)
app.add_typer(config.app, name="config", rich_help_panel=_STORED)
app.command("doctor", rich_help_panel=_STORED)(doctor.doctor)
app.command("generators", rich_help_panel=_MODELS)(generators.generators)
app.add_typer(models.app, name="models", rich_help_panel=_MODELS)
app.add_typer(data.app, name="data", rich_help_panel=_MODELS)
app.add_typer(train.app, name="train", rich_help_panel=_MODELS)
app.add_typer(bench.app, name="bench", rich_help_panel=_MODELS)
app.add_typer(eval.app, name="eval", rich_help_panel=_MODELS)
