"""Checkpoints by their step, not by their time.

LangGraph's savers take the checkpoint with the greatest id for the latest, and an id begins with the time. If the clock
was set back, a resumed turn would be read from where it was cut off, and everything after that would be lost.
"""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

__all__ = ["LatestStep"]


class LatestStep(BaseCheckpointSaver[Any]):
    """Makes the latest checkpoint of a thread the one with the greatest step; put it before a saver's class.

    It fits threads that are never forked, as those of turns are.
    """

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that a configuration names or, where it names none, the latest of its thread."""
        if "checkpoint_id" in config.get("configurable", {}):
            return super().get_tuple(config)
        return max(self.list(config), key=_step, default=None)


def _step(found: CheckpointTuple) -> int:
    return int(found.metadata.get("step", -1))
