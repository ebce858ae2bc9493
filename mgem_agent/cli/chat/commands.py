"""The table of all commands of `mgem chat`, used to run, explain and complete them."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from mgem_agent.cli.chat.command import Command
from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from mgem_agent.cli.chat.state import Chat, ChatUI

__all__ = ["complete", "run_command"]

MAX_LABEL_COLUMNS = 36


def command_table() -> dict[str, Command]:
    """Return all commands by name, in the order of /help."""
    from mgem_agent.cli.chat import dialogue_commands, export, picture_commands, setting_commands, story

    commands = [
        Command("help", "", "Show this help.", _help),
        *picture_commands.COMMANDS,
        *story.COMMANDS,
        *setting_commands.COMMANDS,
        *dialogue_commands.COMMANDS,
        *export.COMMANDS,
        Command("quit", "", "Leave the chat; the session is saved. Ctrl-D does the same.", _quit),
    ]
    return {command.name: command for command in commands}


def run_command(line: str, chat: Chat, ui: ChatUI) -> None:
    """Run a line that begins with a slash.

    Raises:
        InputError: If there is no such command.
        MgemError: If the command fails.
    """
    name, _, rest = line.removeprefix("/").partition(" ")
    commands = command_table()
    command = commands.get(name)
    if command is None:
        close = difflib.get_close_matches(name, commands, n=1)
        hint = f" Did you mean /{close[0]}?" if close else ""
        raise InputError(
            f"There is no command '/{name}'.{hint} /help lists all. To begin a message with a slash, type '//'."
        )
    command.run(chat, ui, rest.strip())


def complete(text: str, chat: Chat) -> tuple[str, list[str]]:
    """Return completions for a line.

    Args:
        text: The line up to the cursor.
        chat: The dialogue.

    Returns:
        The word to complete, and its completions; `["files"]` means that it is a path.
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


def _help(chat: Chat, ui: ChatUI, rest: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    # Limit the width of this column: commands with many options would leave no room for the explanations.
    table.add_column(max_width=min(MAX_LABEL_COLUMNS, ui.console.width // 2))
    table.add_column(overflow="fold")
    for command in command_table().values():
        label = Text(f"/{command.name}", style="bold").append(f" {command.arguments}", style="not bold dim")
        table.add_row(label, command.explanation)
    ui.console.print(table)
    ui.console.print(
        'Alt-Enter starts a new line, as does Enter between """ and """. N is a picture: its number, its id or a file; '
        "the last picture if left out. Ctrl-C stops the current picture; pressed again, it stops the turn.",
        style="dim",
        highlight=False,
    )


def _quit(chat: Chat, ui: ChatUI, rest: str) -> None:
    chat.is_over = True
