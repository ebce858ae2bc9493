"""What frozen encoders make of scenes, computed when it is first asked for and kept in a file.

A generator's latents, or all that mining looks at. Drawing a scene and encoding it costs a fifth of a generator's step
and most of one of `visual_words`, and both go through their scenes many times.
A row that is not there yet, or was half written when the process died, holds a NaN somewhere, and is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mgem_agent.errors import CheckpointError

__all__ = ["LatentCache"]


class LatentCache:
    """The latents of a series of scenes.

    Args:
        file: Where they are kept; made if it is not there.
        num: How many scenes there are.
        shape: Of the latents of one.
        encode: Makes latents (B, *shape) of the scenes of some indices.

    Raises:
        CheckpointError: If the file holds another number of latents, or others in shape.
    """

    def __init__(self, file: Path, num: int, shape: tuple[int, ...], encode: Callable[[Sequence[int]], Tensor]) -> None:
        self._encode = encode
        if not file.is_file():
            beside = file.with_name(f".{file.name}.new")
            rows = np.lib.format.open_memmap(beside, "w+", np.float16, (num, *shape))
            rows[:] = np.nan
            rows.flush()
            beside.rename(file)
        self._rows = np.lib.format.open_memmap(file, "r+")
        if self._rows.shape != (num, *shape):
            raise CheckpointError(
                f"{str(file)!r} holds latents of shape {self._rows.shape}, and {(num, *shape)} were expected. Take "
                "another folder, or delete that file: it is made again."
            )

    def latents(self, indices: Sequence[int]) -> Tensor:
        """Return the latents of some scenes, (B, *shape) in float32."""
        rows = self._rows[list(indices)].astype(np.float32)
        missing = [place for place, row in enumerate(rows) if np.isnan(row).any()]
        if missing:
            made = self._encode([indices[place] for place in missing]).cpu().float().numpy().astype(np.float16)
            for place, row in zip(missing, made, strict=True):
                self._rows[indices[place]] = rows[place] = row
        return torch.from_numpy(rows)
