"""The commands of `mgem chat`: one table, which runs them, explains them and completes them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from mgem_agent.cli.chat_state import Chat, Face

__all__ = ["Command", "command_table", "complete", "read_options", "run_command"]


MAX_LABEL_COLUMNS = 36


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
    run: Callable[[Chat, Face, str], None]
    complete: Callable[[Chat], Iterable[str]] | str | None = None


def command_table() -> dict[str, Command]:
    """Return every command by its name, in the order of the help."""
    from mgem_agent.cli import (
        chat_dialogue_commands,
        chat_export,
        chat_picture_commands,
        chat_setting_commands,
        chat_story,
    )

    commands = [
        Command("help", "", "Say what can be done here.", _help),
        *chat_picture_commands.COMMANDS,
        *chat_story.COMMANDS,
        *chat_setting_commands.COMMANDS,
        *chat_dialogue_commands.COMMANDS,
        *chat_export.COMMANDS,
        Command("quit", "", "Leave; the session stays. Ctrl-D does the same.", _quit),
    ]
    return {command.name: command for command in commands}


def run_command(line: str, chat: Chat, face: Face) -> None:
    """Run a line that begins with a slash.

    Raises:
        InputError: If there is no such command.
        MgemError: Whatever the command raises.
    """
    name, _, rest = line.removeprefix("/").partition(" ")
    commands = command_table()
    command = commands.get(name)
    if command is None:
        close = difflib.get_close_matches(name, commands, n=1)
        hint = f" Did you mean /{close[0]}?" if close else ""
        raise InputError(f"There is no command '/{name}'.{hint} /help lists them; '//' begins a message with a slash.")
    command.run(chat, face, rest.strip())


def complete(text: str, chat: Chat) -> tuple[str, list[str]]:
    """Say how a line can go on.

    Args:
        text: The line up to the cursor.
        chat: The dialogue.

    Returns:
        The word that is completed, and what it may become; `files` alone for a path.
    """
    name, space, rest = text.removeprefix("/").partition(" ")
    commands = command_table()
    if not space:
        return text, [f"/{known}" for known in commands if known.startswith(name)]
    wanted = commands[name].complete if name in commands else None
    if wanted is None:
        return "", []
    if isinstance(wanted, str):
        return rest, [wanted]
    word = rest.rpartition(" ")[2]
    return word, [each for each in wanted(chat) if each.startswith(word)]


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


def _help(chat: Chat, face: Face, rest: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    # The longest of them have many options, and would leave the explanations no room.
    table.add_column(max_width=min(MAX_LABEL_COLUMNS, face.console.width // 2))
    table.add_column(overflow="fold")
    for command in command_table().values():
        label = Text(f"/{command.name}", style="bold").append(f" {command.arguments}", style="not bold dim")
        table.add_row(label, command.explanation)
    face.console.print(table)
    face.console.print(
        'Alt-Enter begins a new line, and so does Enter within """ and """. N is the number of a picture, an id or a '
        "file; the last picture if left out. Ctrl-C stops the picture that is being drawn, then the turn.",
        style="dim",
        highlight=False,
    )


def _quit(chat: Chat, face: Face, rest: str) -> None:
    chat.is_over = True
