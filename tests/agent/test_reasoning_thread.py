"""The reasoner gets the session's name as its thread, so that it finds the caches of the dialogue."""

from __future__ import annotations

from pathlib import Path

from mgem_agent import MgemAgent
from mgem_agent.artifacts import ArtifactStore
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner


def test_all_turns_of_a_session_have_one_thread(tmp_path: Path) -> None:
    reasoner = ScriptedReasoner(script=["One."], is_endless=True)
    agent = MgemAgent(reasoner, FlatColourGenerator(), store=ArtifactStore(tmp_path), sessions=Sessions.in_memory())
    agent.invoke("Hello.", session="fox")
    list(agent.stream("And now?", session="fox"))
    agent.invoke("Hello.", session="hen")
    assert [request.thread_id for request in reasoner.requests] == ["fox", "fox", "hen"]
