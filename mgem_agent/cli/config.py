"""`mgem config`: show the settings with their sources, and change them in the user's config file.

Editing keeps the file's comments and order. API keys are never written to it: the file is not protected, and the
command would stay in the shell's history.
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

app = typer.Typer(help="View and edit the configuration.", invoke_without_command=True)

_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
_Name = Annotated[str, typer.Argument(metavar="NAME", help="A setting, such as model or picture.width.")]


@app.callback()
def _config(context: typer.Context, as_json: _AsJson = False) -> None:
    """View and edit the configuration.

    Command-line options override environment variables (MGEM_MODEL, MGEM_PICTURE__WIDTH), which override the file.
    """
    if context.invoked_subcommand is None:
        _show(as_json=as_json)


@app.command("show")
def _show(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show only this setting.")] = None,
    as_json: _AsJson = False,
) -> None:
    """Show each setting with its value and the source of the value."""
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
    name: _Name, value: Annotated[str, typer.Argument(metavar="VALUE", help="The value, written as in TOML.")]
) -> None:
    """Set a value in the user's config file.

    Example: mgem config set picture.width 512
    """
    from mgem_agent.errors import InputError
    from mgem_agent.settings import hidden, setting_names

    name = _known(name)
    if hidden(name, value) == "(hidden)":
        raise InputError(
            f"{name} is a secret and is not written to a file. Set it as an environment variable under the name that "
            f"the service uses, such as OPENAI_API_KEY."
        )
    if name not in setting_names() and "." not in name:
        raise InputError(f"{name} is a table. Give a setting in it, such as {name}.width.")
    path, document = _read()
    table, last = _place(document, name)
    table[last] = _checked(name, value)
    _write(path, document)


@app.command("unset")
def _unset(name: _Name) -> None:
    """Remove a value from the user's config file, even an unknown one."""
    from mgem_agent.errors import InputError

    path, document = _read()
    table, last = _place(document, name)
    if last not in table:
        raise InputError(f"{name!r} is not set in {str(path)!r}. Run: mgem config show")
    del table[last]
    first = document.get(name.partition(".")[0])
    if isinstance(first, dict):
        for part in [part for part, value in first.items() if value == {}]:
            del first[part]
        if not first:
            del document[name.partition(".")[0]]
    _write(path, document)


@app.command("path")
def _path() -> None:
    """Print the path of the user's config file."""
    from mgem_agent.config_file import config_path

    echo(config_path())


def _known(name: str) -> str:
    """Return the name if there is such a setting.

    Raises:
        InputError: If there is no setting of that name.
    """
    from mgem_agent.settings import known_setting

    return known_setting(name)


def _checked(name: str, value: str) -> Any:
    """Return a value as it is written to the file.

    Raises:
        InputError: If the setting does not allow this value.
    """
    import tomlkit
    from tomlkit.exceptions import ParseError

    from mgem_agent.errors import InputError
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
    try:
        loaded = load_settings(**{first: {rest: given} if rest else given})
    except InputError:
        parsed = _list_or_table(value)
        if not rest or parsed is None:
            raise
        loaded = load_settings(**{first: {rest: parsed}})
    _check_names(name, loaded)
    settings = loaded.model_dump(mode="json")
    checked = settings[first][rest] if rest else settings[first]
    return value if first == "store" else checked


def _list_or_table(value: str) -> Any:
    """Return a value that is written as a list or a table of TOML; None if it is neither."""
    import tomlkit
    from tomlkit.exceptions import ParseError

    if not value.strip().startswith(("[", "{")):
        return None
    try:
        return tomlkit.value(value.strip()).unwrap()
    except (ParseError, ValueError):
        return None


def _check_names(name: str, settings: Settings) -> None:
    """Check that a model or generator name is valid; a missing key or package is accepted.

    Raises:
        InputError: If there is no such model or generator.
    """
    from mgem_agent.cli.factories import open_generator, open_reasoner
    from mgem_agent.errors import GeneratorUnavailableError, MissingDependencyError, MissingKeyError

    opened = {"model": open_reasoner, "generator": open_generator}.get(name)
    if opened is not None:
        with suppress(GeneratorUnavailableError, MissingDependencyError, MissingKeyError):
            opened(settings)


def _read() -> tuple[Path, TOMLDocument]:
    """Return the path and content of the user's file; empty if there is no file."""
    import tomlkit
    from tomlkit.exceptions import ParseError

    from mgem_agent.config_file import MAX_CONFIG_BYTES, config_path
    from mgem_agent.errors import InputError
    from mgem_agent.user_files import read_user_file

    path = config_path().resolve()  # keep a symbolic link, and write its target
    try:
        text = read_user_file(path, "The config file", max_bytes=MAX_CONFIG_BYTES)
        if "\ufffd" in text:  # writing the file back would lose the bytes that were replaced
            raise InputError(f"The config file {str(path)!r} is not valid UTF-8. Save the file as UTF-8 first.")
        return path, tomlkit.parse(text)
    except FileNotFoundError:
        return path, tomlkit.document()
    except (ValueError, ParseError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"The config file {str(path)!r} cannot be read: {error}. Fix the file or remove it."
        ) from error


def _place(document: TOMLDocument, name: str) -> tuple[Any, str]:
    """Return the table of a setting, created if needed, and the setting's name in it."""
    import tomlkit

    first, _, rest = name.partition(".")
    if not rest:
        return document, first
    path, last = [first], rest
    if first == "generator_options":
        from mgem_agent.tools.registry import generator_schemes

        scheme, _, option = rest.partition(".")
        path, last = ([first, scheme], option) if option and scheme in generator_schemes() else (path, last)
    table: Any = document
    for part in path:
        if not isinstance(table.get(part), dict):
            table[part] = tomlkit.table()
        table = table[part]
    return table, last


def _write(path: Path, document: TOMLDocument) -> None:
    import tomlkit

    from mgem_agent.artifacts.atomic_file import write_atomically
    from mgem_agent.errors import InputError

    if path.exists() and not path.is_file():
        raise InputError(f"{str(path)!r} is not a file. Set MGEM_CONFIG to the path of a file.")
    write_atomically(path, tomlkit.dumps(document).encode())
