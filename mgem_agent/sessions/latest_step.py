"""Find the latest checkpoint by its step instead of its time.

LangGraph's savers treat the checkpoint with the greatest id as the latest, and ids begin with the time. If the clock
was set back, the steps of a resumed turn would be ignored and lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointTuple

__all__ = ["LatestStep", "copy_thread"]


class LatestStep(BaseCheckpointSaver[Any]):
    """Mixin that returns the checkpoint with the greatest step as the latest; put it before a saver class.

    It is valid for threads that are never forked, which holds for turns.
    """

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that a configuration names, or the latest one of its thread."""
        if "checkpoint_id" in config.get("configurable", {}):
            return super().get_tuple(config)
        return max(self.list(config), key=_step, default=None)


def copy_thread(
    source: BaseCheckpointSaver[Any], target: BaseCheckpointSaver[Any], thread: str, changes: Mapping[str, Any]
) -> None:
    """Copy the latest checkpoint of a thread, if it has one, with the writes that follow it.

    Args:
        source: Where the thread is.
        target: Where it is copied to.
        thread: Id of the thread.
        changes: Values that are different in the copy, by channel.
    """
    named: RunnableConfig = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    found = source.get_tuple(named)
    if found is None:
        return
    checkpoint: Checkpoint = {**found.checkpoint}
    checkpoint = {**checkpoint, "channel_values": {**checkpoint["channel_values"], **changes}}
    placed = target.put(named, checkpoint, found.metadata, checkpoint["channel_versions"])
    by_task: dict[str, list[tuple[str, Any]]] = {}
    for task, channel, value in found.pending_writes or ():
        by_task.setdefault(task, []).append((channel, value))
    for task, writes in by_task.items():
        target.put_writes(placed, writes, task)


def _step(found: CheckpointTuple) -> int:
    return int(found.metadata.get("step", -1))
