"""Facts about a reasoner: what they keep of sessions is bounded."""

from __future__ import annotations

from mgem_agent.chat_models.reasoner_facts import MAX_SESSIONS, facts_of
from mgem_agent.testing import ScriptedReasoner


def test_only_the_latest_sessions_are_kept() -> None:
    reasoner = ScriptedReasoner(script=["Yes."])
    facts = facts_of(reasoner)
    facts.note_left_out("first", (1, 0))
    for number in range(MAX_SESSIONS - 1):
        facts.note_left_out(f"session {number}", (1, 2))
    facts.note_left_out("first", (2, 0))
    facts.note_left_out("last", (3, 0))
    assert len(facts.left_out) == MAX_SESSIONS
    assert facts.left_out["first"] == (2, 0) and "session 0" not in facts.left_out
