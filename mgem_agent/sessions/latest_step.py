"""Find the latest checkpoint by its step instead of its time.

LangGraph's savers treat the checkpoint with the greatest id as the latest, and ids begin with the time. If the clock
was set back, the steps of a resumed turn would be ignored and lost.
"""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

__all__ = ["LatestStep"]


class LatestStep(BaseCheckpointSaver[Any]):
    """Mixin that returns the checkpoint with the greatest step as the latest; put it before a saver class.

    It is valid for threads that are never forked, which holds for turns.
    """

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that a configuration names, or the latest one of its thread."""
        if "checkpoint_id" in config.get("configurable", {}):
            return super().get_tuple(config)
        return max(self.list(config), key=_step, default=None)


def _step(found: CheckpointTuple) -> int:
    return int(found.metadata.get("step", -1))
