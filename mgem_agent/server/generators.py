"""The image generators of a server, by name, each created at its first use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

from mgem_agent.redaction import redact
from mgem_agent.server.gathering import GatheringGenerator
from mgem_agent.server.http_errors import NotFoundError
from mgem_agent.server.metrics import Metrics
from mgem_agent.server.tracing import Tracing
from mgem_agent.tools.image_generator import ImageGenerator

__all__ = ["PREFIX", "Generators"]

PREFIX = "image:"
"""Prefix of a generator among the models, if the reasoner has the same name."""


class Generators:
    """The generators that clients may use. A client cannot name any other: a name may be an address or a folder.

    Args:
        names: Their names; the first is the default.
        make: Creates a generator by its name; nothing is loaded yet.
        max_batch: As for `GatheringGenerator`.
        wait_s: As for `GatheringGenerator`.
        expects_more: As for `GatheringGenerator`.
        metrics: As for `GatheringGenerator`.
        tracing: As for `GatheringGenerator`.
    """

    def __init__(
        self,
        names: Sequence[str],
        make: Callable[[str], ImageGenerator],
        *,
        max_batch: int = 8,
        wait_s: float = 0.02,
        expects_more: Callable[[int], bool] = lambda num_waiting: False,
        metrics: Metrics | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._real = {redact(name): name for name in names}
        self._make = make
        self._wrap = partial(
            GatheringGenerator,
            max_batch=max_batch,
            wait_s=wait_s,
            expects_more=expects_more,
            metrics=metrics,
            tracing=tracing,
        )
        self._made: dict[str, GatheringGenerator] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the generators, without passwords."""
        return tuple(self._real)

    @property
    def default(self) -> str:
        """Name of the default generator."""
        return self.names[0]

    @property
    def num_waiting(self) -> int:
        """Number of pictures that wait for a batch."""
        return sum(generator.num_waiting for generator in list(self._made.values()))

    def get(self, name: str | None = None) -> GatheringGenerator:
        """Return a generator.

        Args:
            name: Its name; None for the default.

        Raises:
            NotFoundError: If clients may not use a generator of this name.
            InputError: If it cannot be created.
        """
        name = self.default if name is None else name
        name = name if name in self.names else name.removeprefix(PREFIX)
        if name not in self.names:
            raise NotFoundError(
                f"There is no image generator {name[:200]!r}. Available: {', '.join(self.names)}.", param="model"
            )
        with self._lock:
            if name not in self._made:
                self._made[name] = self._wrap(self._make(self._real[name]))
            return self._made[name]

    def close(self) -> None:
        """End their threads."""
        with self._lock:
            for generator in self._made.values():
                generator.close()
