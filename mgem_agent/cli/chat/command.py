"""A command of `mgem chat`, and the parsing of its options."""

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
        name: Name, without the slash.
        arguments: Arguments, as /help shows them.
        explanation: One sentence for /help.
        run: Runs the command with the text after its name.
        complete: Completion of the argument: `files`, or a function that lists words.
    """

    name: str
    arguments: str
    explanation: str
    run: Callable[[Chat, ChatUI, str], None]
    complete: Callable[[Chat], Iterable[str]] | str | None = None


def read_options(text: str, options: Mapping[str, Callable[[str], Any]]) -> tuple[str, dict[str, Any]]:
    """Separate options from the other words, which are prose and keep their quotes and apostrophes.

    Only the value of an option may be in double quotes.

    Args:
        text: The text after a command's name.
        options: Parser of each option's value, by the option's name, such as `--seed`; `bool` for a flag.

    Returns:
        The words, and the values of the given options by their names without dashes.

    Raises:
        InputError: If an option is unknown or its value is not valid.
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
            raise InputError(f"This command has no option {word!r}. Options: {', '.join(options) or 'none'}.")
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
            raise InputError(f"{value!r} is not valid for {word}. {_wanted(reader)}") from error
    return " ".join(words), found


def _wanted(reader: Callable[[str], Any]) -> str:
    return {int: "Give a whole number.", float: "Give a number."}.get(reader, (reader.__doc__ or "").split("\n")[0])  # type: ignore[call-overload]
