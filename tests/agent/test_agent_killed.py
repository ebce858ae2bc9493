"""A turn that is killed at any of its writes is resumed to its end, and nothing that is stored is drawn again.

A kill is mimicked at the edge: the write fails, and so does every later one, as a dead process writes no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.base import id as checkpoint_id
from langgraph.store.base import PutOp

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.artifacts import picture_folder
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools.image_request import ImageRequest

HOUR_NS = 3_600_000_000_000
CAPTIONS = ("a red fox", "a blue hen")


class Killed(BaseException):
    """The end of a process."""


@dataclass
class Process:
    """A process that dies at one of its writes.

    Attributes:
        dies_at: Number of the write that it dies at, from 1; None if it lives.
        num_writes: Writes so far.
        drawn: Captions that it drew.
    """

    dies_at: int | None = None
    num_writes: int = 0
    drawn: list[str] = field(default_factory=list)

    def writing(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def write_or_die(*args: Any, **options: Any) -> Any:
            if write.__name__ == "batch" and not any(isinstance(each, PutOp) for each in args[0]):
                return write(*args, **options)  # it only reads
            self.num_writes += 1
            if self.dies_at is not None and self.num_writes >= self.dies_at:
                raise Killed
            return write(*args, **options)

        return write_or_die


class Caller(BaseChatModel):
    """Asks for two pictures, and says so when it has them; `is_native` as one that calls tools natively."""

    is_native: bool = False

    @property
    def _llm_type(self) -> str:
        return "caller"

    def bind_tools(self, tools: Any, **options: Any) -> Any:
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **options: Any,
    ) -> ChatResult:
        if any(isinstance(message, ToolMessage) for message in messages):
            answer = AIMessage(content="There they are.")
        else:
            calls = [{"name": "generate_image", "args": {"prompt": each}, "id": each} for each in CAPTIONS]
            answer = AIMessage(content="", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=answer)])


class ProtocolCaller(Caller):
    """As one that speaks the `<GEN>` protocol: it has a draw mode."""

    draw: str = "auto"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Runs something with an agent in a process that may die; the same folders, another agent each time."""
    write_file = picture_folder.write_atomically

    def run_process(process: Process, home: Path, way: str, work: Callable[[MgemAgent], Any]) -> Any:
        sessions = Sessions.at(home / "sessions")
        saver: Any = sessions.checkpointer
        for name in ("put", "put_writes", "delete_thread"):
            monkeypatch.setattr(saver, name, process.writing(getattr(saver, name)))
        records: Any = vars(sessions)["_records"]
        monkeypatch.setattr(records, "batch", process.writing(records.batch))
        monkeypatch.setattr(picture_folder, "write_atomically", process.writing(write_file))
        reasoner = ProtocolCaller() if way == "protocol" else Caller()
        generator = FlatColourGenerator(size=(16, 16), num_steps=1)
        agent = MgemAgent(
            reasoner,
            generator,
            store=ArtifactStore(home / "images"),
            sessions=sessions,
            session="default",
            confirm=way == "confirm",
        )
        try:
            return work(agent)
        finally:
            process.drawn += [request.prompt for request in generator.drawn]
            sessions.close()

    yield run_process


def begin(agent: MgemAgent, way: str) -> None:
    if way == "person":
        list(agent.stream_drawing([ImageRequest(prompt=each) for each in CAPTIONS]))
    else:
        agent.invoke("Draw them.")


def go_on(agent: MgemAgent, way: str) -> None:
    """What a user does after a kill, until the turn is over."""
    if not agent.sessions.list():
        begin(agent, way)
    while agent.sessions.open_turn("default"):
        agent.resume(decision="approve" if agent.waiting() else None)


def the_turn(home: Path) -> dict[str, Any]:
    """The record of the only turn."""
    sessions = Sessions.at(home / "sessions")
    [turn] = sessions.turns("default")
    assert sessions.open_turn("default") is None
    sessions.close()
    return dict(turn)


def titles(home: Path) -> list[str]:
    return sorted(artifact.title for artifact in ArtifactStore(home / "images").list())


@pytest.fixture
def clock_set_back(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets LangGraph's clock back by hours, as for a process that is started after that."""

    def set_back(hours: int) -> None:
        real = time.time_ns
        monkeypatch.setattr(checkpoint_id, "time", SimpleNamespace(time_ns=lambda: real() - hours * HOUR_NS))
        monkeypatch.setattr(checkpoint_id, "_last_v6_timestamp", None)

    return set_back


@pytest.mark.parametrize(
    "way",
    [
        "protocol",
        "tools",
        pytest.param("confirm", marks=pytest.mark.slow),
        pytest.param("person", marks=pytest.mark.slow),
    ],
)
def test_a_turn_outlives_a_kill_at_every_write(
    run: Any, clock_set_back: Callable[[int], None], tmp_path: Path, way: str
) -> None:
    undisturbed = Process()
    run(undisturbed, tmp_path / "undisturbed", way, lambda agent: go_on(agent, way))
    whole = the_turn(tmp_path / "undisturbed")["messages"]
    assert undisturbed.num_writes > 12
    for dies_at in range(1, undisturbed.num_writes + 1):
        home = tmp_path / str(dies_at)
        first, second = Process(dies_at), Process()
        clock_set_back(0)
        with pytest.raises(Killed):
            run(first, home, way, lambda agent: go_on(agent, way))
        stored = titles(home)
        clock_set_back(dies_at % 2)
        run(second, home, way, lambda agent: go_on(agent, way))
        turn = the_turn(home)
        kinds = [message["type"] for message in turn["messages"]]
        assert kinds == [message["type"] for message in whole], dies_at
        assert [picture["prompt"] for picture in turn["pictures"]] == list(CAPTIONS), dies_at
        assert not turn["failures"] and turn["outcome"] == "answered"
        assert not set(stored) & set(second.drawn), dies_at
        assert titles(home) == sorted(CAPTIONS)


@pytest.mark.parametrize("way", ["protocol", "tools", "confirm", "person"])
def test_a_turn_that_is_killed_over_and_over_comes_to_its_end(
    run: Any, clock_set_back: Callable[[int], None], tmp_path: Path, way: str
) -> None:
    for number in range(40):
        process = Process(dies_at=5)
        clock_set_back(number)
        stored = titles(tmp_path)
        try:
            run(process, tmp_path, way, lambda agent: go_on(agent, way))
            break
        except Killed:
            pass
        finally:
            assert not set(stored) & set(process.drawn)
    turn = the_turn(tmp_path)
    assert [picture["prompt"] for picture in turn["pictures"]] == list(CAPTIONS)
