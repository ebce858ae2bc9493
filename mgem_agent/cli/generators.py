"""`mgem generators`: list the image generators, and show what one of them supports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgem_agent.cli.printing import echo_json, open_console
from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from mgem_agent.tools import Capabilities, GeneratorScheme
    from mgem_agent.tools.vocabulary import Vocabulary

__all__ = ["generators"]


def generators(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Show this generator, such as openai:gpt-image-2. Default: list all."),
    ] = None,
    things: Annotated[
        bool,
        typer.Option("--things", help="List the things and places that NAME can draw, if its vocabulary is limited."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """List the image generators, or show what one of them supports.

    The list loads no weights and contacts no server. With NAME, the model's files may be read.
    """
    from mgem_agent.cli.factories import open_named_generator
    from mgem_agent.settings import load_settings
    from mgem_agent.tools import describe_generators

    if things and name is None:
        raise InputError("--things needs the name of a generator. Example: mgem generators nano --things")
    if name is not None:
        made = open_named_generator(load_settings(), name)
        if things:
            _print_things(made.name, made.capabilities.vocabulary, as_json=as_json)
        else:
            describe: Any = getattr(made, "describe_speed", dict)
            _print_one(made.name, made.capabilities, describe(), as_json=as_json)
        return
    schemes = describe_generators()
    if as_json:
        echo_json([_as_data(scheme) for scheme in schemes])
    else:
        _print_all(schemes)


def _print_things(name: str, vocabulary: Vocabulary | None, *, as_json: bool) -> None:
    if vocabulary is None:
        raise InputError(f"Generator {name!r} has no limited vocabulary: it accepts any caption.")
    known = {"things": vocabulary.things, "places": vocabulary.places}
    if as_json:
        data = {title: {word.name: list(word.names) for word in words} for title, words in known.items()}
        echo_json({"name": name, **data})
        return
    console = open_console()
    for title, words in known.items():
        console.print(f"[bold]{len(words)} {title}[/]")
        console.print(", ".join(sorted(word.name for word in words)), markup=False)
    console.print(f"\nA picture shows at most {vocabulary.max_things} things, each once.")


def _print_one(name: str, capabilities: Capabilities, speed: dict[str, str], *, as_json: bool) -> None:
    data = {"name": name, **_capabilities_data(capabilities)}
    if as_json:
        echo_json(data | ({"loading": speed} if speed else {}))
        return
    data |= speed
    console = open_console(soft_wrap=True)
    for title, value in data.items():
        if isinstance(value, bool):
            shown = "yes" if value else "no"
        elif isinstance(value, list):
            shown = ", ".join(value) or ("any" if title == "sizes" else "none")
        else:
            shown = "any" if value is None else str(value)
        console.print(f"[bold]{title.replace('_', ' '):<21}[/]", end="")
        console.print(shown, markup=False)


def _print_all(schemes: tuple[GeneratorScheme, ...]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("name", "package", "tasks", "what"):
        table.add_column(title, overflow="fold")
    for scheme in schemes:
        tasks = "depends" if scheme.capabilities is None else "\n".join(sorted(scheme.capabilities.tasks))
        what = f"cannot be used: {scheme.problem}" if scheme.problem else scheme.description
        table.add_row(*map(Text, (scheme.scheme, scheme.package, "" if scheme.problem else tasks, what)))
    console = open_console()
    console.print(table)
    console.print("\nTo see what one supports: mgem generators NAME", soft_wrap=True)


def _as_data(scheme: GeneratorScheme) -> dict[str, Any]:
    return {
        "scheme": scheme.scheme,
        "package": scheme.package,
        "description": scheme.description,
        "capabilities": scheme.capabilities and _capabilities_data(scheme.capabilities),
        "problem": scheme.problem,
    }


def _capabilities_data(capabilities: Capabilities) -> dict[str, Any]:
    """Capabilities as JSON data, with sorted sets and sizes such as 1024x768."""
    data = capabilities.model_dump(exclude={"vocabulary"})
    known = capabilities.vocabulary
    return data | {
        "vocabulary": "any caption" if known is None else f"{len(known.things)} things, {len(known.places)} places",
        "tasks": sorted(capabilities.tasks),
        "options": sorted(capabilities.options),
        "sizes": [f"{width}x{height}" for width, height in capabilities.sizes],
    }
