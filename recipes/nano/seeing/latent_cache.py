"""Features of frozen encoders for scenes, computed when first needed and cached in a file.

Rendering and encoding a scene takes most of a step of `visual_words`, which uses each scene many times. A row that is
missing, or was half written when the process died, contains a NaN and is computed again.
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
    """The features of a series of scenes.

    Args:
        file: The file; created if missing.
        num: Number of scenes.
        shape: Shape of the features of one scene.
        encode: Computes features (B, *shape) of the scenes with the given indices.

    Raises:
        CheckpointError: If the file has another number or shape of features.
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
                f"{str(file)!r} holds latents of shape {self._rows.shape}, but {(num, *shape)} is needed. Use "
                "another folder, or delete the file to compute it again."
            )

    def latents(self, indices: Sequence[int]) -> Tensor:
        """Return the features of some scenes, (B, *shape) in float32."""
        rows = self._rows[list(indices)].astype(np.float32)
        missing = [place for place, row in enumerate(rows) if np.isnan(row).any()]
        if missing:
            made = self._encode([indices[place] for place in missing]).cpu().float().numpy().astype(np.float16)
            for place, row in zip(missing, made, strict=True):
                self._rows[indices[place]] = rows[place] = row
        return torch.from_numpy(rows)
