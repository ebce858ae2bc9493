"""The latest checkpoint is the one with the greatest step, whatever the clock said."""

from __future__ import annotations

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver

from mgem_agent.sessions.latest_step import LatestStep


class Saver(LatestStep, InMemorySaver):
    """A saver in memory."""


def test_the_latest_is_the_greatest_step() -> None:
    saver = Saver()
    config = {"configurable": {"thread_id": "turn", "checkpoint_ns": ""}}
    assert saver.get_tuple(config) is None
    early, late = empty_checkpoint(), empty_checkpoint()
    saver.put(config, late, {"step": 0}, {})  # the clock was set back after it
    saver.put(config, early, {"step": 1}, {})
    assert early["id"] < late["id"]
    latest = saver.get_tuple(config)
    assert latest is not None and latest.checkpoint["id"] == early["id"]
    named = saver.get_tuple({"configurable": {**config["configurable"], "checkpoint_id": late["id"]}})
    assert named is not None and named.metadata.get("step") == 0
