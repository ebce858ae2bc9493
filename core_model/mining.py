"""Patch info mining: every low-resolution token looks up detail in its own window of the high-resolution map.

Equation 1 of the paper, as the released weights need it (single head; three projections φ, each a LayerNorm and a
Linear; the residual is the raw query token)::

    T = X + softmax(φ_q(X) φ_k(X')ᵀ / √C) φ_v(X')

X' are the M×M pixels of the token's window in the concatenated ConvNeXt stage maps at 1/4 scale. Written like that, a
768 px image costs two projections of 36,864 pixels of 2,880 channels. Three exact steps compute the same result at a
much lower cost:

* **No pixel is projected.** With x̂ a pixel normalised without γ and β, the logits are u·x̂ plus a constant that
cancels in
  the softmax, u = γ_k ⊙ W_kᵀφ_q(X) / √C; and the weighted sum of the values is W_v(γ_v ⊙ Σ a x̂ + β_v) + b_v.
* **No map is up-sampled.** Bilinear interpolation is linear, so u·up(f) = up(u·f): one number per pixel is interpolated
  instead of a feature vector. The attention weights are mapped down to the coarse pixels in the same way.
* **No map is concatenated.** The mean and the variance over all channels are sums over the stages. The variance of an
  interpolated pixel follows from the inner products of the few coarse pixels it is made of.

Sums use float32 for any dtype of the features. The cancellation error of the variance stays at the size of float32
rounding, because the mean over channels is small compared with the spread.

Shapes: b images; n tokens = g² windows in raster order; c query channels; M² pixels per window; K² coarse pixels that a
window touches; S stages of c_s channels, Σ c_s = candidate_dim.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mgem_agent.errors import GeometryError

__all__ = ["PatchInfoMining"]

_CHUNK_ELEMENTS = 1 << 23
"""Most gathered values at a time (32 MiB in float32): windows are mined in blocks of rows up to this size."""


@dataclass(frozen=True)
class _WindowTaps:
    """The coarse pixels that each window touches along one axis, and the weights that interpolate them.

    index: (g, K) positions in the source; weight: (g, M, K) interpolation weights. ``weight`` is None where the source
    already has the wanted size and the taps are the window's own pixels.
    """

    index: Tensor
    weight: Tensor | None


class PatchInfoMining(nn.Module):
    """Mine high-resolution candidates for each low-resolution query token (paper, section 3.2 and Eq. 1).

    Args:
        query_dim: Channels of the query tokens: c.
        candidate_dim: Channels of all candidate maps together: Σ c_s.

    Examples:
        >>> mining = PatchInfoMining(query_dim=8, candidate_dim=6)
        >>> stages = [torch.randn(1, 2, 16, 16), torch.randn(1, 4, 8, 8)]
        >>> mining(torch.randn(1, 16, 8), stages).shape
        torch.Size([1, 16, 8])
    """

    def __init__(self, query_dim: int, candidate_dim: int) -> None:
        super().__init__()
        self.query_dim = query_dim
        self.candidate_dim = candidate_dim
        self.query_norm = nn.LayerNorm(query_dim)
        self.query_proj = nn.Linear(query_dim, query_dim)
        self.key_norm = nn.LayerNorm(candidate_dim)
        self.key_proj = nn.Linear(candidate_dim, query_dim)
        self.value_norm = nn.LayerNorm(candidate_dim)
        self.value_proj = nn.Linear(candidate_dim, query_dim)

    def extra_repr(self) -> str:
        """Return the widths for the module's repr."""
        return f"query_dim={self.query_dim}, candidate_dim={self.candidate_dim}"

    def forward(self, query_tokens: Tensor, candidates: Sequence[Tensor], *, scale: float = 1.0) -> Tensor:
        """Return the query tokens plus the mined details.

        Args:
            query_tokens: (b, n, c) tokens of a square image in raster order, n a square number.
            candidates: Stage maps (b, c_s, h_s, w_s), finest first; the first sets the size to which all are
                interpolated (bilinear, half-pixel centres).
            scale: Factor by which the interpolated map is resized (bilinear) before it is cut into windows: 1/2 for the
                global image of visual token extension.

        Returns:
            (b, n, c) in the dtype of ``query_tokens``.

        Raises:
            GeometryError: If the tokens do not form a square, the channels do not add up to ``candidate_dim``, or the
                map does not divide into the windows.
        """
        grid, size = self._check(query_tokens, candidates, scale)
        query = self.query_proj(self.query_norm(query_tokens.to(self.query_proj.weight.dtype)))
        with torch.autocast(query.device.type, enabled=False):
            query = query.to(self.key_proj.weight.dtype)
            probe = (query @ self.key_proj.weight).float() * self.key_norm.weight.float() / math.sqrt(self.query_dim)
            # The same for every pixel of a window, so it cancels in the softmax. It keeps the two biases in the graph:
            # distributed training waits for the gradient of every parameter.
            constant = query @ self.key_proj(self.key_norm.bias) / math.sqrt(self.query_dim)  # (b, n)
            taps = [
                (
                    _taps(stage.shape[2], candidates[0].shape[2], size, grid, stage.device),
                    _taps(stage.shape[3], candidates[0].shape[3], size, grid, stage.device),
                )
                for stage in candidates
            ]
            mined = torch.cat(
                [
                    self._mine(
                        probe[:, start * grid : stop * grid],
                        constant[:, start * grid : stop * grid, None].float(),
                        candidates,
                        taps,
                        slice(start, stop),
                    )
                    for start, stop in _row_blocks(candidates, taps, grid)
                ],
                dim=1,
            )
            normalised = mined * self.value_norm.weight.float() + self.value_norm.bias.float()
        value = self.value_proj(normalised.to(self.value_proj.weight.dtype))
        return query_tokens + value.to(query_tokens.dtype)

    def _mine(
        self,
        probe: Tensor,
        constant: Tensor,
        candidates: Sequence[Tensor],
        taps: Sequence[tuple[_WindowTaps, _WindowTaps]],
        rows: slice,
    ) -> Tensor:
        """Attention-weighted mean of the normalised pixels, for the windows of some rows: (b, n', Σ c_s)."""
        total: Any = 0  # Σ_c x of every pixel, over the stages
        square: Any = 0  # Σ_c x²
        dot: Any = 0  # u·x
        windows = []
        for stage, (vertical, horizontal), stage_probe in zip(
            candidates, taps, probe.split([stage.shape[1] for stage in candidates], dim=-1), strict=True
        ):
            pixels, weight = _gather(stage, vertical, horizontal, rows)  # (b, n', K², c_s), (n', M², K²) or None
            both = pixels @ torch.stack([torch.ones_like(stage_probe), stage_probe], dim=-1)  # (b, n', K², 2)
            if weight is None:
                squares = pixels.square().sum(-1)
            else:
                both = weight @ both
                squares = (weight @ (pixels @ pixels.mT) * weight).sum(-1)
            total, square, dot = total + both[..., 0], square + squares, dot + both[..., 1]
            windows.append((pixels, weight))
        mean = total / self.candidate_dim  # (b, n', M²)
        variance = square / self.candidate_dim - mean.square()
        rstd = torch.rsqrt(variance.clamp_min(0) + self.key_norm.eps)
        logits = (dot - mean * probe.sum(-1, keepdim=True)) * rstd + constant
        attention = torch.softmax(logits, dim=-1) * rstd
        weights = attention.unsqueeze(-2)  # (b, n', 1, M²)
        summed = torch.cat(
            [(weights if weight is None else weights @ weight) @ pixels for pixels, weight in windows], dim=-1
        ).squeeze(-2)
        return summed - (attention * mean).sum(-1, keepdim=True)

    def _check(self, query_tokens: Tensor, candidates: Sequence[Tensor], scale: float) -> tuple[int, int]:
        """Return windows per side g and the side of the map that is cut into them."""
        if isinstance(candidates, Tensor) or not candidates:
            raise GeometryError(
                f"candidates must be a list of stage maps (b, c, h, w), finest first, got {type(candidates).__name__}."
            )
        if query_tokens.dim() != 3 or query_tokens.shape[-1] != self.query_dim:
            raise GeometryError(f"query_tokens must be (b, n, {self.query_dim}), got {tuple(query_tokens.shape)}.")
        shapes = [tuple(stage.shape) for stage in candidates]
        if any(len(shape) != 4 or shape[0] != query_tokens.shape[0] or shape[2] != shape[3] for shape in shapes):
            raise GeometryError(
                f"Each candidate must be a square map (b, c, h, h) with b = {query_tokens.shape[0]}, got {shapes}."
            )
        if sum(shape[1] for shape in shapes) != self.candidate_dim:
            raise GeometryError(
                f"The candidates have {' + '.join(str(shape[1]) for shape in shapes)} channels; "
                f"together they must have candidate_dim = {self.candidate_dim}."
            )
        num_tokens = query_tokens.shape[1]
        grid = math.isqrt(num_tokens)
        if grid == 0 or grid * grid != num_tokens:
            raise GeometryError(f"{num_tokens} query tokens do not form a square. Leave out the class token.")
        size = int(shapes[0][2] * scale)
        if size < grid or size % grid:
            raise GeometryError(
                f"A finest map of {size}×{size} pixels does not divide into {grid}×{grid} windows, one for each of "
                f"{num_tokens} tokens. Use a high-resolution image whose finest map is a multiple of {grid} pixels."
            )
        return grid, size


def _gather(stage: Tensor, vertical: _WindowTaps, horizontal: _WindowTaps, rows: slice) -> tuple[Tensor, Tensor | None]:
    """Collect the pixels each window touches: (b, n', K², c_s) in float32, and weights (n', M², K²) or None."""
    batch, channels = stage.shape[:2]
    down, across = vertical.index[rows], horizontal.index
    height, width = down.shape[0], across.shape[0]
    places = (down[:, None, :, None] * stage.shape[3] + across[None, :, None, :]).flatten()  # by window, then by tap
    pixels = stage.permute(0, 2, 3, 1).flatten(1, 2).index_select(1, places)
    pixels = pixels.reshape(batch, height * width, -1, channels).float()
    if vertical.weight is None or horizontal.weight is None:
        return pixels, None
    weight = torch.einsum("yik,xjl->yxijkl", vertical.weight[rows], horizontal.weight)
    weight = weight.reshape(height * width, weight.shape[2] * weight.shape[3], -1)
    if weight.shape[2] > weight.shape[1]:  # fewer output pixels than touched ones: resample them once
        return weight @ pixels, None
    return pixels, weight


def _row_blocks(
    candidates: Sequence[Tensor], taps: Sequence[tuple[_WindowTaps, _WindowTaps]], grid: int
) -> Iterator[tuple[int, int]]:
    """Split the g rows of windows into blocks whose gathered pixels stay within the chunk size."""
    per_row = sum(
        stage.shape[0] * stage.shape[1] * vertical.index.shape[1] * horizontal.index.numel()
        for stage, (vertical, horizontal) in zip(candidates, taps, strict=True)
    )
    step = max(1, _CHUNK_ELEMENTS // per_row)
    return ((start, min(start + step, grid)) for start in range(0, grid, step))


@lru_cache(maxsize=64)
def _taps(source: int, finest: int, size: int, grid: int, device: torch.device) -> _WindowTaps:
    """Compute, along one axis, which of ``source`` pixels each of ``grid`` windows reads.

    The map is interpolated to ``finest`` pixels and then, where that differs, to ``size``; both by
    ``torch.nn.functional.interpolate`` itself, on the unit vectors, so that its conventions apply exactly.
    """
    if source == finest == size:
        return _WindowTaps(torch.arange(source).view(grid, -1).to(device), None)
    matrix = torch.eye(source).unsqueeze(0)  # (1, source, source): one unit vector a channel
    for target in (finest, size):
        if matrix.shape[-1] != target:
            matrix = F.interpolate(matrix, size=target, mode="linear", align_corners=False)
    windows = matrix[0].T.reshape(grid, size // grid, source)  # (g, M, source)
    used = windows.ne(0).any(dim=1)  # (g, source)
    width = int(used.sum(dim=1).max())
    # A window at the border touches fewer pixels: its spare taps fall on others, with weight 0.
    index = used.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :width].sort(dim=1).values
    weight = windows.gather(2, index.unsqueeze(1).expand(-1, windows.shape[1], -1))
    return _WindowTaps(index.to(device), weight.to(device))
