"""`mgem chat`: a dialogue at the terminal in which the model sees pictures, answers and draws."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgem_agent.cli.factories import budget_flags
from mgem_agent.cli.printing import open_console
from mgem_agent.cli.turn_options import (
    AsJson,
    Budget,
    Confirm,
    Draw,
    Generator,
    Images,
    Look,
    Memory,
    Model,
    System,
    Yes,
)
from mgem_agent.cli.typed_path import store_typed
from mgem_agent.errors import InputError, MgemError

if TYPE_CHECKING:
    from rich.console import Console

    from mgem_agent.agent.events import ConfirmationNeeded
    from mgem_agent.cli.chat.input import Reader
    from mgem_agent.cli.chat.state import Chat, ChatUI
    from mgem_agent.settings import Settings

__all__ = ["chat"]


def chat(
    image: Annotated[
        list[Path] | None, typer.Option("--image", "-a", help="A picture for the first message; repeatable.")
    ] = None,
    is_continued: Annotated[bool, typer.Option("--continue", "-c", help="Continue the most recent session.")] = False,
    resume: Annotated[
        str | None, typer.Option(metavar="ID", help="Continue this session; a unique beginning of its name is enough.")
    ] = None,
    session: Annotated[
        str | None, typer.Option(metavar="NAME", help="Continue the session of this name, or create it.")
    ] = None,
    model: Model = None,
    generator: Generator = None,
    draw: Draw = None,
    look: Look = None,
    memory: Memory = None,
    budget: Budget = None,
    images: Images = None,
    system: System = None,
    confirm: Confirm = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Chat with a model that sees and draws pictures. Type /help for the commands.

    Every turn is saved: `mgem chat -c` continues the last session. In piped input, each line is a message.
    """
    flags = {
        "model": model,
        "generator": generator,
        "draw": draw,
        "look": look,
        "memory_policy": memory,
        "budget": budget_flags(budget, "session"),
        "images": images,
        "system_prompt": system,
        "confirm": False if yes else confirm,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    names = [name for name in (resume, session) if name is not None]
    if len(names) + is_continued > 1:
        raise InputError("--continue, --resume and --session cannot be combined. Give one of them.")
    run_chat(given, image or [], resume=resume, session=session, is_continued=is_continued, yes=yes, as_json=as_json)


def run_chat(
    flags: dict[str, Any],
    images: list[Path],
    *,
    resume: str | None = None,
    session: str | None = None,
    is_continued: bool = False,
    yes: bool = False,
    as_json: bool = False,
    **parts: Any,
) -> None:
    """Run a dialogue until the user quits.

    Args:
        flags: Settings from the command line.
        images: Pictures for the first message.
        resume: Session to continue: its name, or the beginning of it.
        session: Session to continue or to create.
        is_continued: Whether to continue the most recent session.
        yes: Whether captions are approved without asking.
        as_json: Whether events are written as JSON.
        **parts: `reasoner`, `generator`, `store` or `sessions` to use instead of the one that the settings name.

    Raises:
        InputError: If there is no such session, or a setting or a picture is not valid.
    """
    from mgem_agent.cli.chat.commands import complete
    from mgem_agent.cli.chat.input import open_reader
    from mgem_agent.cli.chat.session import find_session
    from mgem_agent.cli.chat.state import Chat
    from mgem_agent.cli.display.pictures import PictureWindow
    from mgem_agent.settings import load_settings

    console, errors = open_console(), open_console(stderr=True)
    settings = load_settings(**flags)
    window = PictureWindow(console, "path" if as_json else settings.images)  # must query the terminal first
    with errors.status("Starting"):
        dialogue = Chat.open(flags, "", **parts)
        dialogue.session = find_session(dialogue.sessions, resume=resume, session=session, is_continued=is_continued)
        dialogue.attached = [store_typed(str(path), dialogue.store) for path in images]
    reader = open_reader(lambda line: complete(line, dialogue))
    ui = open_ui(console, errors, window, dialogue, reader, yes=yes, as_json=as_json)
    try:
        _talk(dialogue, ui, reader, is_new=not (resume or is_continued))
    finally:
        dialogue.sessions.close()


def open_ui(
    console: Console,
    errors: Console,
    window: Any,
    dialogue: Chat,
    reader: Reader,
    *,
    yes: bool,
    as_json: bool,
) -> ChatUI:
    """Return the user interface of a dialogue.

    Args:
        console: Console for answers.
        errors: Console for other messages, if `console` is not a terminal.
        window: Shows pictures.
        dialogue: The dialogue, which numbers its pictures.
        reader: Reads the user's input.
        yes: Whether captions are approved without asking.
        as_json: Whether events are written as JSON.
    """
    from mgem_agent.agent.decision import Decision
    from mgem_agent.cli.chat.decision import ask_decision
    from mgem_agent.cli.chat.editor import edit_text
    from mgem_agent.cli.chat.state import ChatUI
    from mgem_agent.cli.display.display import open_display

    display = open_display(console, errors, window, as_json=as_json, name_of=dialogue.name_of)

    def decide(waiting: ConfirmationNeeded) -> Decision | None:
        if yes:
            return Decision(kind="approve")
        if not reader.is_person:
            display.fail(
                f"{len(waiting.captions)} caption(s) of session {waiting.session!r} must be confirmed, and there is no "
                f"terminal to ask at. Add --yes, or decide at a terminal: mgem chat --resume {waiting.session}"
            )
            return None
        return ask_decision(waiting, reader.edit, display.tell)

    return ChatUI(console, display, window, decide, reader.edit, edit_text if reader.is_person else None)


def _talk(dialogue: Chat, ui: ChatUI, reader: Reader, *, is_new: bool) -> None:
    from mgem_agent.cli.chat.last_turn import show_last_turn

    if reader.is_person:
        _greet(dialogue, ui)
        if not is_new:
            show_last_turn(dialogue, ui)
    failures = 0
    if dialogue.is_unfinished():
        ui.display.tell("Continuing the unfinished turn.")
        failures += _step(lambda: dialogue.resume_turn(ui), dialogue, ui)
    while not dialogue.is_over:
        try:
            line = reader.read()
        except KeyboardInterrupt:
            ui.display.tell("To leave, type /quit or press Ctrl-D. The session is saved.")
            continue
        if line is None:
            break
        if line.strip():
            failures += _step(lambda said=line: _take(said, dialogue, ui), dialogue, ui)
    if reader.is_person and dialogue.sessions.turns(dialogue.session, limit=1):
        ui.display.tell(f"To continue: mgem chat --resume {dialogue.session}")
    if failures and not reader.is_person:
        raise typer.Exit(1)


def _take(line: str, dialogue: Chat, ui: ChatUI) -> None:
    """Run a command, or send a message."""
    from mgem_agent.cli.chat.commands import run_command

    line = line.strip()
    if line.startswith("/") and not line.startswith("//"):
        run_command(line, dialogue, ui)
    else:
        dialogue.say(line.removeprefix("/") if line.startswith("//") else line, ui)


def _step(do: Any, dialogue: Chat, ui: ChatUI) -> int:
    """Run one step of the dialogue and report its errors. Returns the number of failures."""
    try:
        do()
    except KeyboardInterrupt:
        ui.display.tell("Interrupted.")
    except MgemError as error:
        ui.display.fail(str(error))
    except Exception as error:  # a provider's client may raise anything; the chat must survive it
        if "--debug" in sys.argv:
            raise
        ui.display.fail(f"{type(error).__name__}: {error}")
    else:
        return 0
    if dialogue.is_unfinished() and dialogue.agent.waiting(dialogue.session) is None:
        ui.display.tell("The turn is unfinished: /resume continues it, /undo drops it.")
    return 1


def _greet(dialogue: Chat, ui: ChatUI) -> None:
    settings: Settings = dialogue.settings
    num_turns = len(dialogue.sessions.turns(dialogue.session))
    what = f"{num_turns} turn(s) so far" if num_turns else "a new session"
    ui.console.print(
        f"{settings.model} and {dialogue.generator.name} · {dialogue.session}, {what} · /help",
        style="dim",
        markup=False,
    )
