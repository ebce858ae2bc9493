"""Products of a few vectors with a matrix on a CPU, where reading the matrix is most of the cost.

- **Exact**: a matrix whose weights are all numbers of float16, as in most files, is read in 2 bytes per weight and
  multiplied in float32 by torch's FBGEMM kernel. Up to about six vectors take hardly longer than one. Other matrices,
  and other processors, are multiplied as they are.
- **4 bits**: blocks of 32 weights on a grid of 16 steps, in bfloat16 with float32 sums.
- **8 bits**: rows of weights rounded to 255 steps, likewise.

Shapes: r vectors; d their length; n rows of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Product", "exact_product", "four_bit_product", "grid_product", "has_kernels", "row_product"]

Product = Callable[[Tensor], Tensor]
"""From (r, d) to (r, n); the result is float32 or bfloat16."""

_GROUP = 32
"""Weights that share a step and an offset on a grid of 4 bits."""

_GRID_TOLERANCE = 0.01
"""Tolerance, in steps, for a weight to be on its grid; float16 steps need some."""

_KERNELS: Any = torch  # its products with packed weights have no public names yet


def exact_product(weight: Tensor) -> Product:
    """Return the product in float32 with a matrix (n, d), packed if that loses nothing."""
    halves = weight.half()
    if has_kernels() and torch.equal(halves.float(), weight):
        try:
            packed = torch.ops.quantized.linear_prepack_fp16(weight, None)
        except RuntimeError:  # this build of torch has no FBGEMM
            return lambda hidden: F.linear(hidden, weight)
        return lambda hidden: torch.ops.quantized.linear_dynamic_fp16(hidden, packed)
    return lambda hidden: F.linear(hidden, weight)


def four_bit_product(weight: Tensor) -> Product:
    """Return the product with a matrix rounded to grids of 16 steps; in 8 bits if its shape has no such blocks."""
    if not _has_blocks(weight):
        return row_product(weight)
    places, step, lowest = _places(weight)
    return _packed(places.round_().clamp_(0, 15), step, lowest)


def grid_product(weight: Tensor) -> Product | None:
    """Return the product with a matrix whose blocks of 32 weights lie on grids of 16 steps; None for others."""
    if not _has_blocks(weight) or _on_grid(weight[:16]) is None:  # a few rows usually suffice
        return None
    found = _on_grid(weight)
    return None if found is None else _packed(*found)


def row_product(weight: Tensor) -> Product:
    """Return the product with a matrix whose rows are rounded to 255 steps."""
    step = (weight.abs().amax(dim=1) / 127).clamp_min(torch.finfo(weight.dtype).tiny)
    packed = (weight / step[:, None]).round().to(torch.int8)
    step = step.bfloat16()
    return lambda hidden: _KERNELS._weight_int8pack_mm(hidden.bfloat16(), packed, step)


def has_kernels() -> bool:
    """Return whether this CPU multiplies packed weights quickly; elsewhere torch falls back to loops."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_f") or capabilities.get("avx512") or capabilities.get("avx2"))


def _has_blocks(weight: Tensor) -> bool:
    num_rows, width = weight.shape
    return not (num_rows % 16 or width % _GROUP)


def _packed(places: Tensor, step: Tensor, lowest: Tensor) -> Product:
    packed = _KERNELS._convert_weight_to_int4pack_for_cpu(places.to(torch.int32), 1)
    grid = torch.stack([step, lowest + 8 * step], dim=-1).transpose(0, 1).contiguous().bfloat16()  # (d / 32, n, 2)
    return lambda hidden: _KERNELS._weight_int4pack_mm_for_cpu(hidden.bfloat16(), packed, _GROUP, grid)


def _places(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the positions (n, d) of weights on grids of 16, and the step and start (n, d / 32) of each grid."""
    groups = weight.view(len(weight), -1, _GROUP)
    lowest, highest = groups.aminmax(dim=-1)
    step = ((highest - lowest) / 15).clamp_min(torch.finfo(weight.dtype).tiny)
    return groups.sub(lowest[..., None]).div_(step[..., None]).view_as(weight), step, lowest


def _on_grid(weight: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the same as `_places`, in whole numbers, if all weights are on their grids."""
    places, step, lowest = _places(weight)
    rounded = places.round()
    if places.sub_(rounded).abs_().max() > _GRID_TOLERANCE:
        return None
    return rounded, step, lowest
