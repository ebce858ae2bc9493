"""Packed matrices hold the same numbers in fewer bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mgem_agent.core_model import MiniGeminiForConditionalGeneration
from mgem_agent.core_model.packed_weights import ROWS, UNIT_BYTES, UNIT_COLUMNS, Format, PackedWeights, can_pack, pack

MakeModel = Callable[..., MiniGeminiForConditionalGeneration]


@pytest.fixture
def trunk(make_model: MakeModel) -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    return make_model(**sizes).model.language_model


def unpacked(packed: PackedWeights, product: int, part: int = 0) -> Tensor:
    """Return a matrix (rows, columns) as the kernels read it, by the layout in the module's text."""
    number, blocks, units, start = packed.table[product, part].tolist()
    kind = Format(number)
    size = UNIT_BYTES[kind]
    data = packed.data[start : start + blocks * units * size].view(blocks, units, size)
    columns = UNIT_COLUMNS[kind]
    dtypes = {Format.HALF: torch.float16, Format.BRAIN: torch.bfloat16, Format.FLOAT: torch.float32}
    if kind in dtypes:
        numbers = data.contiguous().view(dtypes[kind]).float()
        values = numbers.view(blocks, units, columns, ROWS)
    else:
        length = columns * (16 if kind is Format.GRID else 32)
        codes, scales = data[..., :length], data[..., length:].contiguous().view(torch.half).float()
        steps = scales[..., None, :ROWS]
        if kind is Format.GRID:
            codes = codes.view(blocks, units, columns, 16)
            values = torch.cat([codes & 15, codes >> 4], -1) * steps + scales[..., None, ROWS:]
        else:
            values = codes.contiguous().view(torch.int8).view(blocks, units, columns, ROWS) * steps
    return values.permute(0, 3, 1, 2).reshape(blocks * ROWS, -1)


def test_every_format_is_read_back(trunk: Any) -> None:
    layer = trunk.layers[0]
    torch.manual_seed(0)
    codes, step, lowest = (torch.randint(0, 16, (64, 64)), torch.rand(64, 2).half(), -torch.rand(64, 2).half())
    codes[:, ::32], codes[:, 1::32] = 0, 15  # as a file has them: each block holds its lowest and its highest value
    grid = codes.view(64, 2, 32) * step.float()[..., None] + lowest.float()[..., None]
    layer.self_attn.o_proj.weight.data = grid.view(64, 64)
    codes = torch.randint(-127, 128, (64, 96))
    codes[:, ::32] = 127
    layer.mlp.down_proj.weight.data = (codes.view(64, 3, 32) * torch.rand(64, 3).half().float()[..., None]).view(64, 96)
    for name in "qkv":
        projection = getattr(layer.self_attn, f"{name}_proj")
        projection.weight.data = projection.weight.data.half().float()
    head = torch.randn(70, 64).bfloat16().float() / 4096
    packed = pack(trunk, head)
    assert packed.formats()[-1] is Format.BRAIN
    assert torch.equal(unpacked(packed, 4 * len(trunk.layers))[:70], head)
    assert packed.formats()[:4] == [Format.HALF, Format.GRID, Format.FLOAT, Format.BYTES]
    torch.testing.assert_close(unpacked(packed, 1), layer.self_attn.o_proj.weight.detach(), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(unpacked(packed, 3), layer.mlp.down_proj.weight.detach(), atol=1e-6, rtol=1e-6)
    joined = torch.cat([getattr(layer.self_attn, f"{name}_proj").weight.detach() for name in "qkv"])
    assert torch.equal(unpacked(packed, 0), joined)
    gate, up = unpacked(packed, 2).view(-1, 2, 16, 64).unbind(1)
    assert torch.equal(gate.reshape(96, 64), layer.mlp.gate_proj.weight)
    assert torch.equal(up.reshape(96, 64), layer.mlp.up_proj.weight)
    assert unpacked(packed, 4 * len(trunk.layers)).shape == (96, 64), "rows are padded to whole blocks"


def test_adapters_of_joined_projections_stay_apart(trunk: Any) -> None:
    first, second = torch.randn(2, 64), torch.randn(32, 2)
    packed = pack(trunk, torch.randn(64, 64), {"layers.0.self_attn.v_proj": (first, second)})
    assert torch.equal(unpacked(packed, 0, 1)[:2], first)
    wide = unpacked(packed, 0, 2)[:, :2]
    assert torch.equal(wide[96:128], second)
    assert not wide[:96].any()
    assert not packed.table[1, 1:].any()


def test_a_file_holds_everything(trunk: Any, tmp_path: Path) -> None:
    packed = pack(trunk, torch.randn(64, 64))
    packed.save(tmp_path / "packed.safetensors")
    loaded = PackedWeights.load(tmp_path / "packed.safetensors")
    for name in ("data", "table", "norms"):
        assert torch.equal(getattr(loaded, name), getattr(packed, name))


def test_other_widths_are_refused(make_model: MakeModel, trunk: Any) -> None:
    assert can_pack(trunk)
    assert not can_pack(make_model(hidden_size=40, num_attention_heads=4).model.language_model)
