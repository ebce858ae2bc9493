"""One command of `mgem chat`, and the options that follow its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from mgem_agent.cli.chat.state import Chat, ChatUI

__all__ = ["Command", "read_options"]


@dataclass(frozen=True, slots=True)
class Command:
    """A command.

    Attributes:
        name: What follows the slash.
        arguments: What follows the name, as help shows it.
        explanation: What it does, in a sentence.
        run: Does it; gets what follows the name.
        complete: What the argument may be, for completion: `files`, or a function that lists the words.
    """

    name: str
    arguments: str
    explanation: str
    run: Callable[[Chat, ChatUI, str], None]
    complete: Callable[[Chat], Iterable[str]] | str | None = None


def read_options(text: str, options: Mapping[str, Callable[[str], Any]]) -> tuple[str, dict[str, Any]]:
    """Part options from words, which keep their quotes and apostrophes, for they are prose.

    Only the value of an option may stand in double quotes.

    Args:
        text: What follows a command.
        options: What reads the value of each option, by its name, such as `--seed`; `bool` for one without a value.

    Returns:
        The words, and the values of the options that are there, by their names without dashes.

    Raises:
        InputError: If an option is unknown or its value cannot be.
    """
    words, found = [], {}
    waiting = text.split()
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("-") or len(word) < 2 or word[1].isdigit():
            words.append(word)
            continue
        reader = options.get(word)
        if reader is None:
            raise InputError(f"There is no option {word!r} here. Options: {', '.join(options) or 'none'}.")
        if reader is bool:
            found[word.lstrip("-")] = True
            continue
        value = waiting.pop(0) if waiting else ""
        while value.startswith('"') and (len(value) < 2 or not value.endswith('"')) and waiting:
            value += " " + waiting.pop(0)
        value = value.strip('"')
        try:
            found[word.lstrip("-")] = reader(value)
        except ValueError as error:
            raise InputError(f"{word} cannot be {value!r}. {_wanted(reader)}") from error
    return " ".join(words), found


def _wanted(reader: Callable[[str], Any]) -> str:
    return {int: "Give a whole number.", float: "Give a number."}.get(reader, (reader.__doc__ or "").split("\n")[0])  # type: ignore[call-overload]
