"""Decide whether a generator draws the pages that are written, or waits until more are written.

A batch costs a fixed time and a time for each picture. Both are measured while the story is drawn. Waiting pays if the
saved fixed time is longer than the wait: a fast writer and a slow generator with cheap batches. Otherwise pages are
drawn as soon as they are written. Either way the story ends earlier, and the pictures are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["DrawingPace"]

ASSUMED_SINGLE_S = 0.5
"""Seconds of a single picture until one was timed. No wait is longer than it can save, so a small value is safe."""

ASSUMED_SHARE = 0.25
"""Share of each further picture of a batch, relative to a single one, until two sizes of batches were timed."""

TOLERANCE = 0.02
"""A picture is drawn now if waiting would end the story earlier by no more than this share of the time that is left."""


class DrawingPace:
    """Times of batches, and the decision that follows from them.

    Args:
        max_batch_size: Maximum number of pictures in a batch; None for no maximum.

    Examples:
        >>> pace = DrawingPace()
        >>> pace.note(1, 10.0)
        >>> pace.note(8, 20.0)
        >>> round(pace.batch_s(4), 1)
        14.3
        >>> pace.is_worth_waiting(num_ready=1, num_to_come=7, page_s=0.1), pace.is_worth_waiting(1, 7, 30.0)
        (True, False)
    """

    def __init__(self, max_batch_size: int | None = None) -> None:
        self.max_batch_size = max_batch_size
        self._timed: list[tuple[int, float]] = []

    def note(self, num_pictures: int, seconds: float) -> None:
        """Note the time of a batch."""
        self._timed.append((num_pictures, seconds))

    def batch_s(self, num_pictures: int) -> float:
        """Return the estimated seconds of a batch: a straight line through the times of batches so far."""
        fixed_s, picture_s = self._costs()
        return fixed_s + picture_s * num_pictures

    def is_worth_waiting(self, num_ready: int, num_to_come: int, page_s: float) -> bool:
        """Return whether the story ends earlier if the pages that are ready are not drawn yet.

        Args:
            num_ready: Number of pages that are ready to be drawn.
            num_to_come: Number of pages that are still to be written.
            page_s: Estimated seconds to write a page.
        """
        if not num_to_come or (self.max_batch_size is not None and num_ready >= self.max_batch_size):
            return False
        arrivals = [page_s * (place + 1) for place in range(num_to_come)]
        now = self._end_s(0.0, num_ready, arrivals)
        waiting = min(
            self._end_s(arrivals[place], num_ready + place + 1, arrivals[place + 1 :]) for place in range(num_to_come)
        )
        return now > waiting * (1 + TOLERANCE)

    def _end_s(self, start_s: float, num_ready: int, arrivals: Sequence[float]) -> float:
        """Return when the last picture is drawn if, from a time on, every batch has all pages that are ready."""
        time_s, to_come = start_s, list(arrivals)
        while num_ready or to_come:
            if not num_ready:
                time_s = max(time_s, to_come[0])
            while to_come and to_come[0] <= time_s:
                to_come.pop(0)
                num_ready += 1
            size = min(num_ready, self.max_batch_size or num_ready)
            time_s += self.batch_s(size)
            num_ready -= size
        return time_s

    def _costs(self) -> tuple[float, float]:
        """Return the fixed seconds of a batch, and the seconds of each picture; neither is negative."""
        sizes = [size for size, _ in self._timed]
        if len(set(sizes)) < 2:
            timed = self._timed or [(1, ASSUMED_SINGLE_S)]
            size = timed[0][0]
            single_s = math.fsum(seconds for _, seconds in timed) / len(timed) / (1 + ASSUMED_SHARE * (size - 1))
            return single_s * (1 - ASSUMED_SHARE), single_s * ASSUMED_SHARE
        mean_size = sum(sizes) / len(sizes)
        mean_s = math.fsum(seconds for _, seconds in self._timed) / len(sizes)
        spread = math.fsum((size - mean_size) ** 2 for size in sizes)
        slope = math.fsum((size - mean_size) * (seconds - mean_s) for size, seconds in self._timed) / spread
        slope = min(max(slope, 0.0), mean_s / mean_size)
        return mean_s - slope * mean_size, slope
