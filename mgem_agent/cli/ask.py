"""`mgem ask`: one question, one answer, with the pictures that belong to it."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgem_agent.cli.factories import budget_flags
from mgem_agent.cli.incoming_text import read_piped
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
from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from mgem_agent.agent.decision import Decision
    from mgem_agent.agent.events import ConfirmationNeeded
    from mgem_agent.cli.display.contract import TurnDisplay

__all__ = ["ask", "run_ask"]


def ask(
    question: Annotated[str, typer.Argument(help="The question. Piped input is appended to it.")] = "",
    image: Annotated[
        list[Path] | None, typer.Option("--image", "-a", help="A picture for the question; repeatable.")
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
    """Ask one question. Prints the answer and the paths of any pictures drawn for it.

    Examples: mgem ask "Draw a red fox"; mgem ask -a table.jpg "What is on it?"; cat notes.txt | mgem ask "Sum this up"

    Only the pictures are saved. To save the dialogue too, use mgem chat.
    """
    flags = {
        "model": model,
        "generator": generator,
        "draw": draw,
        "look": look,
        "memory_policy": memory,
        "budget": budget_flags(budget, "turn"),
        "images": images,
        "system_prompt": system,
        "confirm": False if yes else confirm,
    }
    run_ask(with_context(question, read_piped()), image or [], flags, as_json=as_json)


def with_context(question: str, piped: str) -> str:
    """Return a question with the piped input appended."""
    return "\n\n".join(part for part in (question.strip(), piped.strip()) if part)


def run_ask(text: str, images: list[Path], flags: dict[str, Any], *, as_json: bool = False, **parts: Any) -> None:
    """Run one turn.

    Args:
        text: The question.
        images: Pictures that are sent with it.
        flags: Settings from the command line.
        as_json: Whether events are written as JSON.
        **parts: `reasoner`, `generator` or `store` to use instead of the one that the settings name.

    Raises:
        InputError: If the question is empty, a picture cannot be read, or confirmation is on without a terminal.
        Exit: With status 1 if a picture could not be drawn, 130 if the user stopped something.
    """
    from mgem_agent.cli.display.ctrl_c import INTERRUPTED_STATUS
    from mgem_agent.cli.display.display import open_display
    from mgem_agent.cli.display.pictures import PictureWindow
    from mgem_agent.cli.display.run_turn import run_turn
    from mgem_agent.cli.factories import open_agent, open_reasoner, prepare_reasoner
    from mgem_agent.settings import load_settings

    if not text and not images:
        raise InputError('The question is empty. Example: mgem ask "What does a red fox eat?"')
    console, errors = open_console(), open_console(stderr=True)
    settings = load_settings(**flags)
    is_person = sys.stdin.isatty() and console.is_terminal
    if settings.confirm and not is_person:
        raise InputError("Drawing must be confirmed, and there is no terminal to ask at. Add --yes or --no-confirm.")
    window = PictureWindow(console, "path" if as_json and settings.images != "none" else settings.images)
    with errors.status("Starting"):
        from mgem_agent.sessions.sessions import Sessions

        if "reasoner" not in parts:
            parts["reasoner"] = open_reasoner(settings)
        agent = open_agent(settings, sessions=Sessions.in_memory(), **parts)
    prepare_reasoner(settings, parts["reasoner"])
    shown = [store_typed(str(image), agent.store) for image in images]
    display = open_display(console, errors, window, as_json=as_json, name_of=lambda artifact_id, call_id: artifact_id)
    for name in shown:
        for notice in agent.store.get(name).notices:
            display.tell(notice.message)
    stopped = threading.Event()
    events = agent.stream(text, shown, session="ask")
    turn = run_turn(agent, "ask", events, display, _decider(console, display), stopped=stopped)
    if stopped.is_set():
        raise typer.Exit(INTERRUPTED_STATUS)
    is_empty = turn is not None and not (turn.text or turn.pictures)
    if turn is None or turn.failures or is_empty or turn.outcome != "answered":
        raise typer.Exit(1)


def _decider(console: Console, display: TurnDisplay) -> Any:
    """Return a function that asks the user at the terminal."""

    def decide(waiting: ConfirmationNeeded) -> Decision | None:
        from prompt_toolkit import prompt

        from mgem_agent.cli.chat.decision import ask_decision

        def edit(question: str, text: str) -> str | None:
            try:
                return prompt(question, default=text)
            except (KeyboardInterrupt, EOFError):
                return None

        return ask_decision(waiting, edit, lambda message: None)

    return decide
