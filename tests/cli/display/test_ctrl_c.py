from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.cli.display.ctrl_c import stopped_by_ctrl_c
from mgem_agent.cli.display.run_turn import run_turn
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner


def wait_for(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_each_press_stops_the_next_thing() -> None:
    stopped: list[str] = []
    told: list[str] = []

    def stop(name: str, is_there: bool = True) -> Callable[[], bool]:
        def do() -> bool:
            stopped.append(name)
            return is_there

        return do

    before = signal.getsignal(signal.SIGINT)
    stops = [(stop("picture"), "the picture"), (stop("nothing", False), "nothing"), (stop("turn"), "the turn")]
    with pytest.raises(KeyboardInterrupt), stopped_by_ctrl_c(stops, told.append):
        signal.raise_signal(signal.SIGINT)
        wait_for(lambda: told == ["the picture"])
        signal.raise_signal(signal.SIGINT)
        wait_for(lambda: told == ["the picture", "the turn"])
        signal.raise_signal(signal.SIGINT)
    assert stopped == ["picture", "nothing", "turn"]
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_has_no_signals() -> None:
    found: list[object] = []

    def work() -> None:
        with stopped_by_ctrl_c([], print):
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]


class Presser:
    """A display that presses Ctrl-C at steps of drawings, and keeps what it is told."""

    def __init__(self, presses: int) -> None:
        self.presses = presses
        self.events: list[Any] = []
        self.hints: list[str] = []

    def start(self) -> None:
        self.events.clear()

    def show(self, event: Any) -> None:
        self.events.append(event)
        if event.kind == "progress" and len(self.hints) < self.presses:
            num_hints = len(self.hints)
            signal.raise_signal(signal.SIGINT)
            wait_for(lambda: len(self.hints) > num_hints)

    def tell(self, message: str) -> None:
        self.hints.append(message)

    hint_at = fail = tell

    def close(self) -> None:
        self.events.append("closed")


def agent(folder: Path, *script: Any) -> MgemAgent:
    return MgemAgent(
        ScriptedReasoner(script=list(script)),
        FlatColourGenerator(size=(32, 32), num_steps=50, delay_s=5),
        store=ArtifactStore(folder),
        sessions=Sessions.in_memory(),
        answer_tools=True,
    )


def test_ctrl_c_stops_the_drawing_and_then_the_turn(tmp_path: Path) -> None:
    once = agent(tmp_path, "<h> a fox </h>", "Then not.")
    display = Presser(1)
    turn = run_turn(once, "s", once.stream("Draw.", session="s"), display, lambda waiting: None)
    assert turn is not None
    assert (turn.outcome, turn.text, len(turn.failures)) == ("answered", "Then not.", 1)
    assert display.hints == ["stopping the picture; press Ctrl-C again to stop the turn"]
    assert display.events[-1] == "closed"
    twice = agent(tmp_path, "<h> a fox </h>", "<h> a hen </h>")
    display = Presser(2)
    turn = run_turn(twice, "s", twice.stream("Draw.", session="s"), display, lambda waiting: None)
    assert turn is not None
    assert turn.outcome == "cancelled"
    assert twice.turns("s") == [turn], "the session is not lost"
