"""A pool of key-value caches and encoded images of recent dialogues, each lent to one answer at a time.

Every call contains the whole dialogue, so the matching cache is found by its content: the cache of the same thread, or
the one that shares the most messages. A cache in use is not available to other answers, so answers never wait for each
other and never share a cache. At most `max_dialogues` caches are kept; the least recently used are dropped first. The
choice of the cache affects only the cost of an answer, not its text.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mgem_agent.errors import InputError

__all__ = ["CachedDialogue", "DialoguePool"]

State = TypeVar("State")


@dataclass(eq=False)
class CachedDialogue(Generic[State]):
    """The caches of a dialogue.

    Args:
        state: The caches.
        thread_id: Thread of the dialogue.
        messages: Fingerprints of the messages in the caches.
    """

    state: State
    thread_id: str | None = None
    messages: list[str] = field(default_factory=list)


class DialoguePool(Generic[State]):
    """Lends caches.

    Args:
        make: Creates empty caches.
        max_dialogues: Maximum number of idle caches to keep; 0 keeps none.

    Raises:
        InputError: If `max_dialogues` is negative.
    """

    def __init__(self, make: Callable[[], State], max_dialogues: int) -> None:
        if max_dialogues < 0:
            raise InputError(f"max_dialogues is {max_dialogues}. Give 0 to keep no caches, or more.")
        self._make = make
        self._max_dialogues = max_dialogues
        self._idle: list[CachedDialogue[State]] = []  # least recently used first
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of idle caches."""
        return len(self._idle)

    def clear(self) -> None:
        """Drop all idle caches."""
        with self._lock:
            self._idle.clear()

    def visit(self, do: Callable[[State], None]) -> None:
        """Call a function with each idle cache.

        Args:
            do: The function. No cache is lent meanwhile.
        """
        with self._lock:
            for idle in self._idle:
                do(idle.state)

    @contextmanager
    def lend(self, messages: Sequence[str], thread_id: str | None) -> Iterator[CachedDialogue[State]]:
        """Lend the caches that fit a dialogue best, and take them back with the dialogue's new content.

        Args:
            messages: Fingerprints of the messages.
            thread_id: Thread of the dialogue.
        """
        with self._lock:
            found = self._best(messages, thread_id)
            if found is not None:
                self._idle.remove(found)
        lent = found or CachedDialogue(self._make())
        try:
            yield lent
        finally:  # also after a failure: this only records where to look, and the caches know their content
            lent.messages, lent.thread_id = list(messages), thread_id
            with self._lock:
                self._idle.append(lent)
                del self._idle[: max(0, len(self._idle) - self._max_dialogues)]

    def _best(self, messages: Sequence[str], thread_id: str | None) -> CachedDialogue[State] | None:
        """Return the caches of the thread, or those that share the most messages, if that is most of their content."""
        if thread_id is not None:
            own = [each for each in self._idle if each.thread_id == thread_id]
            if own:
                return own[-1]
        free = [each for each in self._idle if each.thread_id is None or thread_id is None]
        shared = [(_num_common(each.messages, messages), each) for each in free]
        num, best = max(shared, key=lambda pair: pair[0], default=(0, None))
        return best if best is not None and 2 * num > len(best.messages) else None


def _num_common(left: Sequence[str], right: Sequence[str]) -> int:
    pairs = zip(left, right, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
