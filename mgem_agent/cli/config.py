"""`mgem config`: what is settled, where each value comes from, and settling it in the user's file.

The file stays its owner's: comments and order are kept. Keys of services are not written to it, because it lies in the
open and because the command would stand in the shell's history.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgem_agent.cli.printing import echo, echo_json, open_console

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

    from mgem_agent.settings import Setting, Settings

__all__ = ["app"]

app = typer.Typer(help="Show and change what is settled once and for all.", invoke_without_command=True)

_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
_Name = Annotated[str, typer.Argument(metavar="NAME", help="A setting, such as model or picture.width.")]


@app.callback()
def _config(context: typer.Context, as_json: _AsJson = False) -> None:
    """Show and change what is settled once and for all.

    Flags go before the environment (MGEM_MODEL, MGEM_PICTURE__WIDTH), the environment before the user's file.
    """
    if context.invoked_subcommand is None:
        _show(as_json=as_json)


@app.command("show")
def _show(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One setting; all if not given.")] = None,
    as_json: _AsJson = False,
) -> None:
    """Show each setting with its value and where that comes from."""
    from mgem_agent.settings import explain_settings

    found = explain_settings()
    if name is not None:
        known = _known(name)
        found = [setting for setting in found if setting.name == known or setting.name.startswith(f"{known}.")]
    if as_json:
        rows = [{"name": each.name, "value": each.value, "source": each.source} for each in found]
        echo_json(rows)
    else:
        _print(found)


def _print(found: list[Setting]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("name", "value", "source"):
        table.add_column(title, overflow="fold")
    for each in found:
        value = each.value if isinstance(each.value, str) else "–" if each.value is None else json.dumps(each.value)
        table.add_row(Text(each.name), Text(value), Text(each.source, "dim" if each.source == "default" else ""))
    open_console().print(table)


@app.command("set")
def _set(
    name: _Name, value: Annotated[str, typer.Argument(metavar="VALUE", help="Its value, as it is written in TOML.")]
) -> None:
    """Settle a value in the user's file.

    Example: mgem config set picture.width 512
    """
    from mgem_agent.errors import InputError
    from mgem_agent.settings import hidden, setting_names

    name = _known(name)
    if hidden(name, value) == "(hidden)":
        raise InputError(
            f"{name} is a secret and is not written to a file. Set it in the environment, by the name that its service "
            f"gives it, such as OPENAI_API_KEY."
        )
    if name not in setting_names() and "." not in name:
        raise InputError(f"{name} is a table. Name a setting in it, such as {name}.width.")
    path, document = _read()
    table, last = _place(document, name)
    table[last] = _checked(name, value)
    _write(path, document)


@app.command("unset")
def _unset(name: _Name) -> None:
    """Take a value out of the user's file, also one that is not known."""
    from mgem_agent.errors import InputError

    path, document = _read()
    table, last = _place(document, name)
    if last not in table:
        raise InputError(f"{name!r} does not stand in {str(path)!r}. Run: mgem config show")
    del table[last]
    if not table and table is not document:
        del document[name.partition(".")[0]]
    _write(path, document)


@app.command("path")
def _path() -> None:
    """Print where the user's file is, or would be."""
    from mgem_agent.settings import config_path

    echo(config_path())


def _known(name: str) -> str:
    """A setting's name as it is.

    Raises:
        InputError: If there is none like it.
    """
    from mgem_agent.settings import known_setting

    return known_setting(name)


def _checked(name: str, value: str) -> Any:
    """A value as it stands in the file.

    Raises:
        InputError: If the setting cannot have it.
    """
    import tomlkit
    from tomlkit.exceptions import ParseError

    from mgem_agent.settings import load_settings

    first, _, rest = name.partition(".")
    if first in ("store", "sessions") and "://" not in value and not value.startswith("~"):
        value = str(Path(value).absolute())
    given: Any = value
    if rest and first.endswith("_options"):
        try:
            given = tomlkit.value(value).unwrap()
        except (ParseError, ValueError):
            given = value
    loaded = load_settings(**{first: {rest: given} if rest else given})
    _check_names(name, loaded)
    settings = loaded.model_dump(mode="json")
    checked = settings[first][rest] if rest else settings[first]
    return value if first == "store" else checked


def _check_names(name: str, settings: Settings) -> None:
    """Check that a model or a generator of that name exists; one that lacks a key or a package does.

    Raises:
        InputError: If there is none.
    """
    from mgem_agent.cli.factories import open_generator, open_reasoner
    from mgem_agent.errors import GeneratorUnavailableError, MissingDependencyError, MissingKeyError

    opened = {"model": open_reasoner, "generator": open_generator}.get(name)
    if opened is not None:
        with suppress(GeneratorUnavailableError, MissingDependencyError, MissingKeyError):
            opened(settings)


def _read() -> tuple[Path, TOMLDocument]:
    """The user's file and what stands in it; nothing if it is not there."""
    import tomlkit
    from tomlkit.exceptions import ParseError

    from mgem_agent.errors import InputError
    from mgem_agent.settings import MAX_CONFIG_BYTES, config_path
    from mgem_agent.user_files import read_user_file

    path = config_path().resolve()  # a file that is kept elsewhere stays there
    try:
        text = read_user_file(path, "The settings in", max_bytes=MAX_CONFIG_BYTES)
        if "\ufffd" in text:  # to write it back would lose what could not be read
            raise InputError(f"The settings in {str(path)!r} are not all UTF-8. Save the file as UTF-8 first.")
        return path, tomlkit.parse(text)
    except FileNotFoundError:
        return path, tomlkit.document()
    except (ValueError, ParseError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"The settings in {str(path)!r} cannot be read: {error}. Mend the file or remove it."
        ) from error


def _place(document: TOMLDocument, name: str) -> tuple[Any, str]:
    """The table that a setting stands in, made if it is not there, and its name in it."""
    import tomlkit

    first, _, rest = name.partition(".")
    if not rest:
        return document, first
    if not isinstance(document.get(first), dict):
        document[first] = tomlkit.table()
    return document[first], rest


def _write(path: Path, document: TOMLDocument) -> None:
    import tomlkit

    from mgem_agent.artifacts.atomic_file import write_atomically
    from mgem_agent.errors import InputError

    if path.exists() and not path.is_file():
        raise InputError(f"{str(path)!r} is no file. Name another in MGEM_CONFIG.")
    write_atomically(path, tomlkit.dumps(document).encode())
