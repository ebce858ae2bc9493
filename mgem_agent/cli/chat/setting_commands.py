"""Commands that change settings for the rest of a dialogue."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mgem_agent.cli.chat.command import Command
from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from mgem_agent.cli.chat.state import Chat, ChatUI

__all__ = ["COMMANDS"]

UNSET = ("default", "none", "off", "random")


def _seed(chat: Chat, ui: ChatUI, rest: str) -> None:
    if rest:
        if rest.lower() not in UNSET and not rest.isdecimal():
            raise InputError(f"{rest!r} is not a seed. Give a whole number, or 'random'.")
        chat.change("picture.seed", None if rest.lower() in UNSET else int(rest))
    seed = chat.settings.picture.seed
    said = "Each picture gets a random seed." if seed is None else f"Pictures are drawn with seed {seed}."
    ui.display.tell(said)


def _style(chat: Chat, ui: ChatUI, rest: str) -> None:
    if rest:
        chat.generator.style = "" if rest.lower() in UNSET else " ".join(rest.split())
    style = chat.generator.style
    ui.display.tell(f"The style of every picture is: {style}" if style else "No style is set.")


def _backend(chat: Chat, ui: ChatUI, rest: str) -> None:
    from mgem_agent.tools import describe_generators

    if rest:
        chat.change("generator", rest)
    ui.display.tell(f"The generator is {chat.generator.name}.")
    if not rest:
        for scheme in describe_generators():
            what = scheme.problem or scheme.description
            ui.console.print(f"{scheme.scheme:<12} {what}", markup=False, highlight=False)


def _set(chat: Chat, ui: ChatUI, rest: str) -> None:
    name, _, value = rest.partition(" ")
    if not name:
        for known in _names(chat):
            ui.console.print(f"{known:<24} {_shown(chat, known)}", markup=False, highlight=False)
        return
    if value.strip():
        chat.change(name, None if value.strip().lower() in UNSET else value.strip())
    elif name not in _names(chat):
        raise InputError(f"There is no setting {name!r}. Settings: {', '.join(_names(chat))}.")
    ui.display.tell(f"{name} = {_shown(chat, name)}")


def _shown(chat: Chat, name: str) -> str:
    """Return a setting's value as `mgem config` shows it."""
    from mgem_agent.settings import hidden

    value: object = chat.settings
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
    value = hidden(name, value)
    return value if isinstance(value, str) else "–" if value is None else json.dumps(value, default=str)


def _names(chat: Chat) -> Iterable[str]:
    from mgem_agent.settings import setting_names

    return setting_names()


def _schemes(chat: Chat) -> Iterable[str]:
    from mgem_agent.tools import generator_schemes

    return generator_schemes()


COMMANDS = (
    Command("seed", "[S | random]", "Use this seed for every picture, or a random one for each.", _seed),
    Command("style", "[TEXT | off]", "Add a style to every picture.", _style),
    Command("backend", "[NAME]", "Switch to another generator, or list them.", _backend, _schemes),
    Command("set", "[NAME [VALUE]]", "Change a setting for this chat, or list them.", _set, _names),
)
