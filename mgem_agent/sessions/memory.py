"""Checkpoints and records of sessions in memory, gone with the program."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.base import Op, Result
from langgraph.store.memory import InMemoryStore

from mgem_agent.sessions.latest_step import LatestStep

__all__ = ["MemoryCheckpoints", "MemoryRecords"]


class MemoryCheckpoints(LatestStep, InMemorySaver):
    """Checkpoints in memory."""


class MemoryRecords(InMemoryStore):
    """Records in memory. Threads may use them at once, and deleted records leave no empty namespaces."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations, as defined by `BaseStore`."""
        ops = list(ops)
        with self._lock:
            results = super().batch(ops)
            for op in ops:
                namespace = getattr(op, "namespace", None)
                if namespace is not None and not self._data.get(namespace, True):
                    del self._data[namespace]
        return results
