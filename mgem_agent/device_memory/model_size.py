"""What a model takes on its device, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ModelSize", "shown_bytes"]


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The memory of a model in bytes.

    Attributes:
        parts: Weights of each part, in the number format in which they are loaded.
        working_bytes: Estimate of what a call needs besides the weights: activations and caches.
    """

    parts: Mapping[str, int]
    working_bytes: int = 0

    @property
    def weight_bytes(self) -> int:
        """All weights."""
        return sum(self.parts.values())

    @property
    def total_bytes(self) -> int:
        """Weights and working memory."""
        return self.weight_bytes + self.working_bytes

    def describe(self) -> str:
        """Return the total and the parts, largest first.

        Examples:
            >>> ModelSize({"vae": 2**28, "unet": 5 * 2**30}, working_bytes=2**30).describe()
            '6.2 GiB (unet 5.0 GiB, vae 256 MiB, working memory about 1.0 GiB)'
        """
        largest_first = sorted(self.parts.items(), key=lambda part: -part[1])
        shown = [f"{name} {shown_bytes(size)}" for name, size in largest_first]
        if self.working_bytes:
            shown.append(f"working memory about {shown_bytes(self.working_bytes)}")
        return f"{shown_bytes(self.total_bytes)} ({', '.join(shown)})"


def shown_bytes(size: float) -> str:
    """Return a number of bytes in MiB or GiB.

    Args:
        size: Number of bytes.

    Examples:
        >>> shown_bytes(3 * 2**20), shown_bytes(1.5 * 2**30)
        ('3 MiB', '1.5 GiB')
    """
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
