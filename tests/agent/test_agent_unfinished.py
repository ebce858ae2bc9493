"""A turn that is left unfinished is resumed, ended with what it has, or moved to other sessions first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import GenerationCancelledError, InputError, ReasonerUnavailableError
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.tools.capabilities import Capabilities

TWO = "Two: <h> a red fox </h> <h> a blue hen </h>"
ONE_BY_ONE: Capabilities = FlatColourGenerator.CAPABILITIES.model_copy(update={"max_batch_size": 1})


class Parts:
    """What two agents share: the store and what was drawn.

    Args:
        folder: Folder of the store.
    """

    def __init__(self, folder: Path) -> None:
        self.store = ArtifactStore(folder / "pictures")
        self.generator = FlatColourGenerator(size=(16, 16), delay_s=0.05, num_steps=2, capabilities=ONE_BY_ONE)

    def agent(self, sessions: Sessions, *script: Any, **options: Any) -> MgemAgent:
        reasoner = ScriptedReasoner(script=list(script) or [TWO])
        return MgemAgent(reasoner, self.generator, store=self.store, sessions=sessions, session="s", **options)

    @property
    def drawn(self) -> list[str]:
        return [request.prompt for request in self.generator.drawn]


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path)


def left(agent: MgemAgent) -> None:
    """Begin a turn, and leave it when the first picture is drawn."""
    with pytest.raises(GenerationCancelledError):
        for event in agent.stream("Draw two."):
            if event.kind == "picture":
                assert agent.abandon()
    assert not agent.abandon()


def test_it_is_resumed_and_draws_only_the_rest(parts: Parts) -> None:
    agent = parts.agent(Sessions.in_memory())
    left(agent)
    turn = agent.resume()
    assert (turn.outcome, len(turn.pictures), parts.drawn) == ("answered", 2, ["a red fox", "a blue hen"])


def test_it_is_ended_with_what_it_has(parts: Parts) -> None:
    agent = parts.agent(Sessions.in_memory(), TWO, "It is a fox.")
    left(agent)
    turn = agent.end_turn()
    assert (turn.outcome, len(turn.pictures), len(turn.failures), parts.drawn) == ("cancelled", 1, 1, ["a red fox"])
    assert agent.sessions.open_turn("s") is None
    assert agent.invoke("What is it?").text == "It is a fox."
    with pytest.raises(InputError, match="no unfinished turn"):
        agent.end_turn()


def test_the_text_of_an_interrupted_answer_is_kept(parts: Parts) -> None:
    def fail(request: Any) -> str:
        raise ReasonerUnavailableError("The server is gone.")

    agent = parts.agent(Sessions.in_memory(), fail, "Never asked.")
    with pytest.raises(ReasonerUnavailableError):
        agent.invoke("Draw two.")
    assert agent.end_turn(said="One,").text == "One,"
    assert [str(message.text) for message in agent.messages()] == ["Draw two.", "One,"]


def test_captions_that_wait_for_a_decision_are_not_drawn(parts: Parts) -> None:
    agent = parts.agent(Sessions.in_memory(), confirm=True)
    list(agent.stream("Draw two."))
    turn = agent.end_turn()
    assert (turn.pictures, len(turn.failures), parts.drawn) == ((), 2, [])


def test_it_is_moved_to_other_sessions_and_resumed_there(parts: Parts, tmp_path: Path) -> None:
    passing, saved = Sessions.in_memory(), Sessions.at(tmp_path / "sessions")
    left(parts.agent(passing))
    turn = saved.take_open(passing, "s", "kept", title="Draw two.")
    [summary] = saved.list()
    assert (summary.name, summary.title, summary.unfinished) == ("kept", "Draw two.", True)
    with pytest.raises(InputError, match="has an unfinished turn"):
        saved.take_open(passing, "s", "kept", title="")
    with pytest.raises(InputError, match="'other' has no unfinished turn"):
        saved.take_open(passing, "other", "kept", title="")
    agent = parts.agent(saved, "Never asked.")
    done = agent.resume("kept")
    assert (done.id, done.session, len(done.pictures), done.text) == (turn, "kept", 2, "Two:")
    assert parts.drawn == ["a red fox", "a blue hen"]
    saved.close()
