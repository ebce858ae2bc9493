"""Commands for the dialogue itself: undo, fork, resume, switch sessions, clipboard and editor."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mgem_agent.cli.chat.command import Command
from mgem_agent.cli.chat.last_turn import show_last_turn
from mgem_agent.cli.chat.picture_tokens import tokens_a_picture
from mgem_agent.cli.chat.session import match_session, new_session_name
from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from mgem_agent.cli.chat.state import Chat, ChatUI

__all__ = ["COMMANDS"]

DATE_COLUMNS = 16
MAX_COPIED_BYTES = 74_994
"""Maximum size that terminals accept for the clipboard, before base64 encoding."""


def _undo(chat: Chat, ui: ChatUI, rest: str) -> None:
    was_unfinished = chat.is_unfinished()
    last = chat.agent.turns(chat.session)[-1:]
    chat.agent.undo(chat.session)
    if was_unfinished:
        ui.display.tell("The unfinished turn was dropped. Its pictures are still in the store.")
        return
    pictures = ", ".join(picture.artifact_id for turn in last for picture in turn.pictures)
    ui.display.tell(
        f"The last turn was dropped.{f' Its pictures are still in the store: {pictures}.' if pictures else ''}"
    )


def _fork(chat: Chat, ui: ChatUI, rest: str) -> None:
    num_turns = len(chat.sessions.turns(chat.session))
    if rest and (not rest.isdecimal() or int(rest) > num_turns):
        raise InputError(f"This session has no turn {rest!r}. It has {num_turns} turn(s).")
    name = new_session_name()
    chat.agent.fork(chat.session, name)
    kept = int(rest) if rest else num_turns
    for _ in range(num_turns - kept):
        chat.agent.undo(name)
    old = chat.session
    chat.switch(name)
    ui.display.tell(f"Now in the new session {name!r}, with {kept} turn(s) of {old!r}. The old session is unchanged.")


def _sessions(chat: Chat, ui: ChatUI, rest: str) -> None:
    show_sessions(chat, ui)


def show_sessions(chat: Chat, ui: ChatUI, limit: int = 20) -> None:
    """List the latest sessions.

    Args:
        chat: The dialogue.
        ui: Where to print the list.
        limit: Maximum number of sessions.
    """
    from rich.table import Table
    from rich.text import Text

    from mgem_agent.cli.display.table import print_table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    found = chat.sessions.list()[:limit]
    widest = max((len(each.name) for each in found), default=0)
    for title in ("session", "changed", "turns"):
        table.add_column(title, no_wrap=True, min_width={"session": widest, "changed": DATE_COLUMNS}.get(title, 5))
    table.add_column("what", overflow="ellipsis", no_wrap=True)
    for each in found:
        label = Text(each.name, style="bold" if each.name == chat.session else "")
        what = f"(unfinished) {each.title}" if each.unfinished else each.title
        table.add_row(label, f"{each.updated.astimezone():%Y-%m-%d %H:%M}", str(each.num_turns), Text(what))
    print_table(ui.console, table)


def _resume(chat: Chat, ui: ChatUI, rest: str) -> None:
    if rest:
        chat.switch(match_session(chat.sessions, rest))
        ui.display.tell(f"Now in session {chat.session!r}.")
        show_last_turn(chat, ui)
    if chat.is_unfinished():
        chat.resume_turn(ui)
    elif not rest:
        raise InputError(
            "This session has no unfinished turn. /resume ID switches to another session; /sessions lists them."
        )


def _clear(chat: Chat, ui: ChatUI, rest: str) -> None:
    old = chat.session
    chat.switch(new_session_name())
    ui.console.clear()
    ui.display.tell(f"Now in a new session. To return to the old one: /resume {old}")


def _tokens(chat: Chat, ui: ChatUI, rest: str) -> None:
    from langchain_core.messages import AIMessage
    from langchain_core.messages.utils import count_tokens_approximately

    messages = chat.agent.messages(chat.session)
    counted = [each.usage_metadata for each in messages if isinstance(each, AIMessage) and each.usage_metadata]
    if counted:
        total = sum(each["input_tokens"] for each in counted), sum(each["output_tokens"] for each in counted)
        last = counted[-1]
        ui.display.tell(
            f"The last answer used {last['input_tokens']:,} input tokens and {last['output_tokens']:,} output tokens; "
            f"the session so far {total[0]:,} and {total[1]:,}."
        )
    a_picture = tokens_a_picture(chat.settings.model)
    about = count_tokens_approximately(messages, tokens_per_image=a_picture or 0)
    pictures = f"with {a_picture} for each picture" if a_picture else "without its pictures"
    ui.display.tell(f"The whole dialogue is about {about:,} tokens, {pictures}.")


def _editor(chat: Chat, ui: ChatUI, rest: str) -> None:
    if ui.ask_text is None:
        raise InputError("An editor needs a terminal. Send the message on standard input.")
    text = ui.ask_text(rest)
    if text is None or not text.strip():
        ui.display.tell("The message is empty, so nothing was sent.")
        return
    chat.say(text.strip(), ui)


def _paste(chat: Chat, ui: ChatUI, rest: str) -> None:
    from PIL import Image, ImageGrab

    try:
        found = ImageGrab.grabclipboard()
    except (OSError, NotImplementedError) as error:
        raise InputError(
            f"The clipboard cannot be read: {error}. To paste text, use your terminal's paste key."
        ) from error
    if isinstance(found, Image.Image):
        names = [chat.store.put_picture(found, origin="the clipboard").id]
    elif found:
        names = [chat.store.put_picture(Path(path), origin=str(path)).id for path in found]
    else:
        raise InputError("There is no picture in the clipboard. To paste text, use your terminal's paste key.")
    for name in names:
        chat.attached.append(name)
        ui.window.show(chat.store.path(name), "will be sent with your next message")


def _copy(chat: Chat, ui: ChatUI, rest: str) -> None:
    said = [turn.text for turn in chat.agent.turns(chat.session) if turn.text]
    if not said:
        raise InputError("There is no answer to copy yet.")
    if not ui.console.is_terminal:
        raise InputError("/copy needs a terminal. Copy the answer from the output.")
    data = said[-1].encode()
    if len(data) > MAX_COPIED_BYTES:
        raise InputError("The last answer is too long for the clipboard. Write it to a file: /export md answer.md")
    # OSC 52: the terminal sets its own clipboard, which also works over SSH.
    ui.console.file.write(f"\x1b]52;c;{base64.b64encode(data).decode()}\a")
    ui.console.file.flush()
    ui.display.tell("The last answer was sent to the terminal's clipboard.")


def _names(chat: Chat) -> Iterable[str]:
    return (each.name for each in chat.sessions.list())


COMMANDS = (
    Command("undo", "", "Drop the unfinished turn, or the last one.", _undo),
    Command("fork", "[N]", "Copy this session, or its first N turns, to a new session and continue there.", _fork),
    Command("sessions", "", "List the sessions.", _sessions),
    Command("resume", "[ID]", "Continue the unfinished turn, or switch to another session.", _resume, _names),
    Command("clear", "", "Start a new session; this one is kept.", _clear),
    Command("tokens", "", "Show how many tokens the dialogue takes.", _tokens),
    Command("editor", "[TEXT]", "Write a message in your editor.", _editor),
    Command("paste", "", "Send the picture in the clipboard with your next message.", _paste),
    Command("copy", "", "Copy the last answer to the clipboard.", _copy),
)
