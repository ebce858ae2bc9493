"""Matrices packed for products with one vector, in the fewest bytes that lose nothing.

A product with one vector takes as long as reading the matrix, so fewer bytes are a quicker product:

| format | bytes a weight | for |
| --- | --- | --- |
| `GRID` | 0.63 | blocks of 32 weights on 16 steps: a GGUF file of type Q4_1 |
| `BYTES` | 1.06 | blocks of 32 weights on 255 steps around zero: Q8_0 |
| `HALF` | 2 | numbers of float16 |
| `BRAIN` | 2 | numbers of bfloat16 |
| `FLOAT` | 4 | all others |

A low-rank adapter would take the weights off their grid if it were merged. So it stays apart: two narrow matrices,
whose product is added.

Layout: 32 rows are a block, because the kernels compute 32 sums at once. A block is a sequence of units of columns, 32
for `GRID` and `BYTES`, 8 for the others. In a unit, column follows column, with one number for each row; in `GRID`, a
byte holds the numbers of row i (low 4 bits) and of row i + 16. After the columns of a unit come the steps of its rows
and, for `GRID`, their lowest values, in float16. Rows and columns are padded with zeros.

Shapes: n rows, d columns of a matrix; b blocks; u units; ρ rank of an adapter.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from mgem_agent.core_model.configuration import head_channels
from mgem_agent.errors import CheckpointError

__all__ = ["ROWS", "UNIT_BYTES", "UNIT_COLUMNS", "Adapters", "Format", "PackedWeights", "can_pack", "pack"]

ROWS = 32
"""Rows of a block."""

_STEPS_ERROR = 1e-5
"""Largest difference of a weight from its grid, in parts of its block's largest value: that of rounding to float32."""

_LARGE_PAGE = 1 << 21

Adapters = Mapping[str, tuple[Tensor, Tensor]]
"""Low-rank adapters by the name of a projection, as in `layers.0.self_attn.q_proj`: (ρ, d), and (n, ρ) times the scale.

They are not merged into the weights."""


class Format(IntEnum):
    """How the numbers of a matrix are stored."""

    GRID = 0
    BYTES = 1
    HALF = 2
    BRAIN = 3
    FLOAT = 4


UNIT_COLUMNS = {Format.GRID: 32, Format.BYTES: 32, Format.HALF: 8, Format.BRAIN: 8, Format.FLOAT: 8}
UNIT_BYTES = {Format.GRID: 640, Format.BYTES: 1088, Format.HALF: 512, Format.BRAIN: 512, Format.FLOAT: 1024}

_DTYPES = {Format.HALF: torch.float16, Format.BRAIN: torch.bfloat16, Format.FLOAT: torch.float32}

_PARTS = 3
"""Matrices of a product: the weights, and the adapter's two."""


@dataclass(frozen=True)
class PackedWeights:
    """The matrices of a LLaMA and its head.

    Attributes:
        data: All matrices, one after the other (uint8).
        table: For each product (four in a layer, then the head) and its three matrices (weights, the adapter's first,
            its second): format, number of blocks, number of units, and first byte, (4 · layers + 1, 3, 4). A matrix
            without blocks is absent.
        norms: Weights of the norms, two a layer, then the last, (2 · layers + 1, d).
    """

    data: Tensor
    table: Tensor
    norms: Tensor

    def formats(self) -> list[Format]:
        """Return the format of each product's weights."""
        return [Format(int(row[0, 0])) for row in self.table]

    def save(self, path: Path) -> None:
        """Write them to a safetensors file."""
        save_file({"data": self.data, "table": self.table, "norms": self.norms}, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PackedWeights:
        """Read a file of :meth:`save`.

        Raises:
            CheckpointError: If it cannot be read.
        """
        try:
            found = load_file(path)
            return cls(_in_large_pages(found["data"]), found["table"], found["norms"])
        except (OSError, SafetensorError, KeyError) as error:
            raise CheckpointError(f"The packed weights {os.fspath(path)!r} cannot be read: {error}.") from error


def can_pack(trunk: Any) -> bool:
    """Return whether the sizes of a LLaMA fit the blocks."""
    config = trunk.config
    channels = head_channels(config)
    widths = (config.hidden_size, config.intermediate_size, config.num_attention_heads * channels)
    return not any(width % ROWS for width in widths) and channels % 2 == 0


def pack(trunk: Any, head: Tensor, adapters: Adapters | None = None) -> PackedWeights:
    """Pack the matrices of a LLaMA.

    Args:
        trunk: The model without its head, in float32.
        head: Weights (vocabulary, d) of its head.
        adapters: Low-rank adapters that are not merged into the weights.
    """
    builder = _Builder(adapters or {})
    for place, layer in enumerate(trunk.layers):
        for part in (
            {name: getattr(layer.self_attn, f"{name}_proj") for name in "qkv"},
            {"o": layer.self_attn.o_proj},
            {name: getattr(layer.mlp, f"{name}_proj") for name in ("gate", "up")},
            {"down": layer.mlp.down_proj},
        ):
            room = "mlp" if "down" in part or "gate" in part else "self_attn"
            names = [f"layers.{place}.{room}.{name}_proj" for name in part]
            weights = [linear.weight.detach() for linear in part.values()]
            builder.add(names, weights, _alternating if "gate" in part else None)
    builder.add([], [head.detach()])
    norms = [norm.weight.detach() for layer in trunk.layers for norm in _norms(layer)]
    table = torch.tensor(builder.table, dtype=torch.int64)
    return PackedWeights(
        _in_large_pages(torch.cat(builder.pieces)), table, torch.stack([*norms, trunk.norm.weight.detach()]).float()
    )


def _in_large_pages(data: Tensor) -> Tensor:
    """Return a copy in memory pages of 2 MB, if the system has them: they are looked up less often."""
    size = data.numel()
    memory = mmap.mmap(-1, size + _LARGE_PAGE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # this kernel has none
            memory.madvise(mmap.MADV_HUGEPAGE)
    room = torch.frombuffer(memory, dtype=torch.uint8)
    start = -room.data_ptr() % _LARGE_PAGE
    return room[start : start + size].copy_(data)


def _norms(layer: Any) -> tuple[Any, Any]:
    return layer.input_layernorm, layer.post_attention_layernorm


def _alternating(weight: Tensor) -> Tensor:
    """Return rows in which 16 of the gate alternate with the 16 that they multiply, so that a block holds both."""
    gate, up = weight.chunk(2)
    half = ROWS // 2
    return torch.stack([gate.view(-1, half, gate.shape[1]), up.view(-1, half, up.shape[1])], 1).flatten(0, 2)


class _Builder:
    """Collects packed matrices."""

    def __init__(self, adapters: Adapters) -> None:
        self.pieces: list[Tensor] = []
        self.table: list[list[list[int]]] = []
        self._adapters = adapters
        self._length = 0

    def add(self, names: list[str], weights: list[Tensor], order: Callable[[Tensor], Tensor] | None = None) -> None:
        """Add projections of one input as one product."""
        arranged = order or (lambda weight: weight)
        rows = [self._add_matrix(arranged(torch.cat(weights)))]
        pairs = [self._adapters.get(name) for name in names]
        if any(pairs):
            down = torch.cat([pair[0].float() for pair in pairs if pair is not None])
            up = torch.zeros(sum(len(weight) for weight in weights), len(down))
            row = column = 0
            for weight, pair in zip(weights, pairs, strict=True):
                if pair is not None:
                    rank = len(pair[0])
                    up[row : row + len(weight), column : column + rank] = pair[1].float()
                    column += rank
                row += len(weight)
            rows += [self._add_matrix(down), self._add_matrix(arranged(up))]
        self.table.append(rows + [[0] * 4] * (_PARTS - len(rows)))

    def _add_matrix(self, weight: Tensor) -> list[int]:
        kind, piece = _packed(weight)
        start = self._length
        self.pieces.append(piece.flatten())
        self._length += piece.numel()
        return [int(kind), len(piece), piece.shape[1], start]


def _packed(weight: Tensor) -> tuple[Format, Tensor]:
    """Return the format of a matrix, and its bytes (b, u, bytes of a unit)."""
    packed = _on_grid(weight) if weight.shape[1] % 32 == 0 else None
    if packed is not None:
        return packed
    for kind, dtype in _DTYPES.items():
        numbers = weight.to(dtype)
        if torch.equal(numbers.to(weight.dtype), weight):
            return kind, _columns(numbers, UNIT_COLUMNS[kind]).view(torch.uint8).flatten(2)
    raise AssertionError("float32 holds every weight")


def _on_grid(weight: Tensor) -> tuple[Format, Tensor] | None:
    """Return the same as `_packed` if all blocks of 32 weights lie on grids; otherwise None."""
    for kind, places_of in ((Format.GRID, _grid_places), (Format.BYTES, _byte_places)):
        if _fitting(weight[:16], places_of) is None:  # a few rows usually suffice
            continue
        found = _fitting(weight, places_of)
        if found is None:
            continue
        places, step, lowest = found
        codes = _columns(places.to(torch.int8), 32)  # (b, u, 32, 32)
        if kind is Format.GRID:
            codes = codes[..., :16] | (codes[..., 16:] << 4)
        bounds = [step] if kind is Format.BYTES else [step, lowest]
        scales = [_columns(bound.half(), 1).squeeze(2) for bound in bounds]  # (b, u, 32)
        parts = [codes.flatten(2).view(torch.uint8), *(part.contiguous().view(torch.uint8) for part in scales)]
        return kind, torch.cat(parts, dim=-1)
    return None


def _fitting(
    weight: Tensor, places_of: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the positions, steps and lowest values of a matrix if they give its weights; otherwise None."""
    places, step, lowest = places_of(weight)
    groups = weight.view(len(weight), -1, 32)
    near = places.view_as(groups) * step[..., None] + lowest[..., None]
    allowed = _STEPS_ERROR * groups.abs().amax(-1, keepdim=True)
    return (places, step, lowest) if bool(((near - groups).abs() <= allowed).all()) else None


def _grid_places(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return positions 0 to 15 (n, d), and the steps and lowest values (n, d / 32) as float16 holds them."""
    groups = weight.view(len(weight), -1, 32)
    lowest, highest = groups.aminmax(dim=-1)
    step, lowest = ((highest - lowest) / 15).half().float(), lowest.half().float()
    places = ((groups - lowest[..., None]) / step.clamp_min(1e-12)[..., None]).round().clamp(0, 15)
    return places.view_as(weight), step, lowest


def _byte_places(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return positions -127 to 127 (n, d), the steps (n, d / 32) as float16 holds them, and zeros."""
    groups = weight.view(len(weight), -1, 32)
    step = (groups.abs().amax(-1) / 127).half().float()
    places = (groups / step.clamp_min(1e-12)[..., None]).round().clamp(-127, 127)
    return places.view_as(weight), step, torch.zeros_like(step)


def _columns(matrix: Tensor, columns: int) -> Tensor:
    """Return a matrix (n, d) by blocks of rows and units of columns, (b, u, columns, 32)."""
    height, width = matrix.shape
    padded = F.pad(matrix, (0, -width % columns, 0, -height % ROWS))
    blocks = padded.view(-1, ROWS, padded.shape[1] // columns, columns)
    return blocks.permute(0, 2, 3, 1).contiguous()
