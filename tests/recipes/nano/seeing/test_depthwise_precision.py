"""Depthwise convolutions keep float32 inside autocast, with the same result and gradient as outside it."""

import torch
from torch import nn

from mgem_agent.recipes.nano.seeing.depthwise_precision import run_depthwise_in_float32


def test_only_depthwise_convolutions_keep_float32():
    torch.manual_seed(0)
    part = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1))
    pixels = torch.randn(2, 8, 6, 6)
    wanted = part[0](pixels)
    run_depthwise_in_float32(part)
    assert set(part.state_dict()) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(part[0](pixels), wanted)
        last = part(pixels)
    assert last.dtype == torch.bfloat16
    last.float().sum().backward()
    gradient = part.get_parameter("0.weight").grad
    assert gradient is not None and gradient.abs().sum() > 0
