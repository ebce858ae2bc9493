"""Key-value caches and encoded images of the last dialogues, lent to one answer at a time.

A dialogue comes whole with every call, so that a cache is known again by what it holds: that of the same thread, or the
one that shares most messages with the dialogue. A cache that is in use is not there for others; so answers never wait
for each other here, and never share what one of them changes. At most `max_dialogues` are kept, the longest unused go
first. Which cache an answer gets changes its cost alone, never what it says.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mgem_agent.errors import InputError

__all__ = ["CachedDialogue", "ConversationPool"]

State = TypeVar("State")


@dataclass(eq=False)
class CachedDialogue(Generic[State]):
    """What is kept of a dialogue.

    Args:
        state: The caches.
        thread_id: Whose dialogue it was.
        messages: A fingerprint for each message that the caches have seen.
    """

    state: State
    thread_id: str | None = None
    messages: list[str] = field(default_factory=list)


class ConversationPool(Generic[State]):
    """Lends caches.

    Args:
        make: Makes empty ones.
        max_dialogues: Most that are kept while none is in use; 0 keeps nothing.

    Raises:
        InputError: If `max_dialogues` is negative.
    """

    def __init__(self, make: Callable[[], State], max_dialogues: int) -> None:
        if max_dialogues < 0:
            raise InputError(f"max_dialogues is {max_dialogues}. Give 0, to keep nothing, or more.")
        self._make = make
        self._max_dialogues = max_dialogues
        self._idle: list[CachedDialogue[State]] = []  # the last used stand last
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many dialogues are kept and not in use."""
        return len(self._idle)

    def clear(self) -> None:
        """Forget all that is not in use."""
        with self._lock:
            self._idle.clear()

    @contextmanager
    def lend(self, messages: Sequence[str], thread_id: str | None) -> Iterator[CachedDialogue[State]]:
        """Lend the caches that fit a dialogue best, and take them back with what the dialogue has added.

        Args:
            messages: A fingerprint for each message.
            thread_id: Whose dialogue it is.
        """
        with self._lock:
            found = self._best(messages, thread_id)
            if found is not None:
                self._idle.remove(found)
        lent = found or CachedDialogue(self._make())
        try:
            yield lent
        finally:  # also after a failure: the caches know what they hold, this is only where to look
            lent.messages, lent.thread_id = list(messages), thread_id
            with self._lock:
                self._idle.append(lent)
                del self._idle[: max(0, len(self._idle) - self._max_dialogues)]

    def _best(self, messages: Sequence[str], thread_id: str | None) -> CachedDialogue[State] | None:
        """Return the caches of the thread; else the ones that share most, if that is most of what they hold."""
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
