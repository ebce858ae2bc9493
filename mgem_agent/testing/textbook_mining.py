"""Patch info mining in the textbook form: a slow reference implementation for tests and benchmarks.

Stage maps are up-sampled and concatenated; every pixel is normalised and projected to a key and a value. The parameters
are named as in :class:`mgem_agent.core_model.PatchInfoMining`, so that both can load the same state dict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["TextbookPatchInfoMining", "concatenate_stage_maps"]


def concatenate_stage_maps(maps: Sequence[Tensor]) -> Tensor:
    """Up-sample stage maps (b, c_s, h_s, w_s), finest first, to the size of the first: (b, Σ c_s, h, w).

    A single map is returned unchanged, so that a concatenated map can be reused.
    """
    if len(maps) == 1:
        return maps[0]
    finest = maps[0]
    coarser = [
        F.interpolate(m.float(), size=finest.shape[-2:], mode="bilinear", align_corners=False).to(m.dtype)
        for m in maps[1:]
    ]
    return torch.cat([finest, *coarser], dim=1)


class TextbookPatchInfoMining(nn.Module):
    """Equation 1 of the paper, with every intermediate tensor.

    Args:
        query_dim: Channels of the query tokens: c.
        candidate_dim: Channels of all candidate maps together.
    """

    def __init__(self, query_dim: int, candidate_dim: int) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(query_dim)
        self.query_proj = nn.Linear(query_dim, query_dim)
        self.key_norm = nn.LayerNorm(candidate_dim)
        self.key_proj = nn.Linear(candidate_dim, query_dim)
        self.value_norm = nn.LayerNorm(candidate_dim)
        self.value_proj = nn.Linear(candidate_dim, query_dim)

    def forward(self, query_tokens: Tensor, candidates: Sequence[Tensor], *, scale: float = 1.0) -> Tensor:
        """Return the query tokens (b, n, c) after mining the stage maps (b, c_s, h_s, w_s).

        Args:
            query_tokens: (b, n, c) in raster order.
            candidates: Stage maps, finest first.
            scale: Factor by which the concatenated map is resized before it is cut into windows.
        """
        pixels = concatenate_stage_maps(candidates)  # (b, candidate_dim, h, w)
        if scale != 1.0:
            pixels = F.interpolate(pixels.float(), scale_factor=scale, mode="bilinear", align_corners=False).to(
                pixels.dtype
            )
        batch, num_tokens, width = query_tokens.shape
        grid = math.isqrt(num_tokens)
        window = pixels.shape[-1] // grid
        pixels = F.unfold(pixels, kernel_size=window, stride=window)  # (b, candidate_dim · M², n)
        pixels = pixels.view(batch, -1, window * window, num_tokens).permute(0, 3, 2, 1)  # (b, n, M², candidate_dim)
        query = self.query_proj(self.query_norm(query_tokens)).unsqueeze(2)  # (b, n, 1, c)
        key = self.key_proj(self.key_norm(pixels))
        value = self.value_proj(self.value_norm(pixels))
        attention = torch.softmax(query @ key.mT / math.sqrt(width), dim=-1)  # (b, n, 1, M²)
        return query_tokens + (attention @ value).squeeze(2)
