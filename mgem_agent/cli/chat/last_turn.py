"""Show the last turn of a session when the user returns to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgem_agent.cli.chat.input import PROMPT
from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from mgem_agent.cli.chat.state import Chat, ChatUI

__all__ = ["show_last_turn"]


def show_last_turn(chat: Chat, ui: ChatUI) -> None:
    """Show the messages and pictures of the last finished turn, if there is one.

    Args:
        chat: The dialogue.
        ui: The user interface.
    """
    from rich.markdown import Markdown

    from mgem_agent.agent.transcript import read_transcript

    numbers = {name: number for number, name in enumerate(chat.pictures(), 1)}
    for turn in read_transcript(chat.sessions.turns(chat.session, limit=1)):
        for said in turn["said"]:
            if said["who"] == "human":
                ui.console.print(f"{PROMPT}{said['text']}", style="dim", markup=False)
            elif said["text"]:
                ui.console.print(Markdown(said["text"]))
            for picture in said["pictures"]:
                _show(chat, ui, picture["id"], numbers.get(picture["id"]))
            for failure in said["failures"]:
                ui.display.tell(f"Not drawn: {failure['message']}")


def _show(chat: Chat, ui: ChatUI, name: str, number: int | None) -> None:
    try:
        ui.window.show(chat.store.path(name), f"[{number}]" if number else name)
    except InputError as error:  # it is no longer stored
        ui.display.tell(str(error))
