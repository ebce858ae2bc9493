"""`mgem sessions`: list, show, export, fork and delete saved dialogues."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgem_agent.cli.printing import confirm, echo, echo_json, open_console

if TYPE_CHECKING:
    from mgem_agent.sessions.session_record import SessionSummary
    from mgem_agent.sessions.sessions import Sessions

__all__ = ["app"]

app = typer.Typer(help="List, show, export, fork and delete saved dialogues.", invoke_without_command=True)

_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
_Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a session, as shown by mgem sessions.")]


@app.callback()
def _sessions(context: typer.Context, as_json: _AsJson = False) -> None:
    """List, show, export, fork and delete saved dialogues."""
    if context.invoked_subcommand is None:
        _list(as_json=as_json)


@app.command("list")
def _list(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number of sessions.")] = 20,
    as_json: _AsJson = False,
) -> None:
    """List the sessions, most recently used first."""
    with _opened() as sessions:
        found = sessions.list()[:limit]
    if as_json:
        echo_json(list(map(_as_data, found)))
    else:
        _print_list(found)


def _print_list(found: list[SessionSummary]) -> None:
    from rich.table import Table
    from rich.text import Text

    from mgem_agent.cli.display.table import print_table

    console = open_console()
    if not found:
        console.print("No sessions yet. Start one: mgem chat")
        return
    rows = [
        (
            each.name,
            str(each.num_turns),
            str(each.num_pictures),
            f"{each.updated.astimezone():%Y-%m-%d %H:%M}",
            f"(unfinished) {each.title}" if each.unfinished else each.title,
        )
        for each in found
    ]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, title in enumerate(("name", "turns", "pictures", "last used")):
        justify: Any = "right" if title in ("turns", "pictures") else "left"
        table.add_column(title, no_wrap=True, justify=justify, min_width=max(len(row[place]) for row in rows))
    table.add_column("begins with", overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    print_table(console, table)


@app.command("show")
def _show(name: _Name, as_json: _AsJson = False) -> None:
    """Print a session as Markdown, with the ids of its pictures.

    To find a picture's file: mgem images show ID
    """
    from mgem_agent.agent.transcript import transcript_markdown
    from mgem_agent.tools.budget import Cost, cost_in_words

    summary, turns = _read(name)
    if as_json:
        echo_json(_as_data(summary) | {"turns": turns})
        return
    echo(transcript_markdown(summary.title or name, turns), nl=False)
    if summary.cost:
        echo(f"\nCost: {cost_in_words(Cost.read(summary.cost))}", err=True)
    if summary.unfinished:
        echo(f"\nThe last turn is unfinished. To continue: mgem chat --resume {shlex.quote(name)}", err=True)


@app.command("export")
def _export(
    name: _Name,
    out: Annotated[Path, typer.Option("--out", "-o", help="Output folder; created if needed.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Overwrite existing files.")] = False,
) -> None:
    """Export a session to a folder: session.md, session.json and its pictures."""
    from mgem_agent.agent.transcript import transcript_markdown
    from mgem_agent.artifacts.atomic_file import write_atomically
    from mgem_agent.cli.factories import open_store
    from mgem_agent.errors import InputError
    from mgem_agent.settings import load_settings

    summary, turns = _read(name)
    target = out / "session.md"
    if target.exists() and not overwrite:
        raise InputError(f"{str(target)!r} already exists. Choose another folder, or add --overwrite.")
    store = open_store(load_settings())
    missing = []
    places: dict[str, str] = {}
    for picture in (each["id"] for turn in turns for said in turn["said"] for each in said["pictures"]):
        try:
            write_atomically(out / "images" / f"{picture}.png", store.path(picture).read_bytes())
            places[picture] = f"images/{picture}.png"
        except InputError:
            missing.append(picture)
    data = json.dumps(_as_data(summary) | {"turns": turns}, indent=2, ensure_ascii=False)
    write_atomically(out / "session.json", f"{data}\n".encode())
    text = transcript_markdown(summary.title or name, turns, lambda picture: places.get(picture, picture))
    write_atomically(target, text.encode())
    echo(target)
    for picture in dict.fromkeys(missing):
        echo(f"{picture} is no longer stored, so it was left out.", err=True)


@app.command("fork")
def _fork(
    name: _Name, new: Annotated[str, typer.Argument(metavar="NEW_NAME", help="Name of the new session.")]
) -> None:
    """Copy the finished turns of a session to a new session. The old one does not change."""
    with _opened() as sessions, sessions.hold(new):
        sessions.fork(name, new)
    echo(f"To continue it: mgem chat --resume {shlex.quote(new)}")


@app.command("delete")
def _delete(
    name: _Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a session. Its pictures and its forks are kept."""
    summary, _ = _read(name)
    if not yes:
        confirm(f"Delete {name!r} with {summary.num_turns} turn(s)? Its pictures are kept.", abort=True)
    with _opened() as sessions, sessions.hold(name):
        sessions.delete(name)


@contextmanager
def _opened() -> Iterator[Sessions]:
    """Open the session storage that the settings name, and close it at the end."""
    from mgem_agent.cli.factories import open_sessions
    from mgem_agent.settings import load_settings

    sessions = open_sessions(load_settings())
    try:
        yield sessions
    finally:
        sessions.close()


def _read(name: str) -> tuple[SessionSummary, list[dict[str, Any]]]:
    """A session's summary, and its turns as data."""
    from mgem_agent.agent.transcript import read_transcript

    with _opened() as sessions:
        return sessions.summary(name), read_transcript(sessions.turns(name))


def _as_data(summary: SessionSummary) -> dict[str, Any]:
    return {
        "name": summary.name,
        "title": summary.title,
        "num_turns": summary.num_turns,
        "num_pictures": summary.num_pictures,
        "updated": summary.updated.isoformat(),
        "unfinished": summary.unfinished,
        "cost": summary.cost,
    }
