"""What a benchmark is measuring, and its results as they come, for whoever shows them.

A benchmark calls `report` at each step. Nothing happens unless it runs inside `reporting`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["BenchStep", "report", "reporting", "steps"]

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class BenchStep:
    """A step of a benchmark.

    Attributes:
        what: What is being measured.
        done: Number of finished runs.
        total: Number of runs; 0 if it is not known.
        result: A finished result, in a line; empty for none.
    """

    what: str
    done: int = 0
    total: int = 0
    result: str = ""


_listener: ContextVar[Callable[[BenchStep], None] | None] = ContextVar("bench_progress", default=None)


@contextmanager
def reporting(listener: Callable[[BenchStep], None]) -> Iterator[None]:
    """Have the steps of benchmarks reported inside a `with` block.

    Args:
        listener: Called with each step.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def report(what: str, done: int = 0, total: int = 0, result: str = "") -> None:
    """Report a step; arguments as the attributes of `BenchStep`."""
    listener = _listener.get()
    if listener is not None:
        listener(BenchStep(what, done, total, result))


def steps(what: str, items: Iterable[Item]) -> Iterator[Item]:
    """Yield items, and report each before and after its work.

    Args:
        what: What is being measured.
        items: The items, one for each run.
    """
    whole = list(items)
    for done, item in enumerate(whole):
        report(what, done, len(whole))
        yield item
    report(what, len(whole), len(whole))
