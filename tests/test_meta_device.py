"""Modules on the meta device, without values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from mgem_agent.core_model import HighResEncoder, HighResVisionConfig
from mgem_agent.meta_device import meta_device, without_meta_values

MAKERS: tuple[Callable[[], torch.Tensor], ...] = (
    lambda: torch.ones(2, 3),
    lambda: torch.zeros((4,), dtype=torch.int64),
    lambda: torch.randn(2, 3, dtype=torch.float16, requires_grad=True),
    lambda: torch.rand(size=(2,)),
    lambda: torch.arange(7),
    lambda: torch.arange(1, 2, 0.25),
    lambda: torch.arange(3, 9, 2, dtype=torch.float32),
    lambda: torch.ones(2, 3, 5, 4).to(memory_format=torch.channels_last),
    lambda: 1.0 / (10000 ** (torch.arange(0, 8, 2, dtype=torch.int64).to(dtype=torch.float) / 8)),
    lambda: torch.ones(2, 3, dtype=torch.float16) / 3,
    lambda: torch.ones(3, dtype=torch.int64) / 2,
    lambda: 2 ** torch.ones(3, dtype=torch.int64),
    lambda: torch.ones(2, 3) / torch.ones(3),
)


@pytest.mark.parametrize("make", MAKERS)
def test_a_tensor_has_the_same_shape_and_dtype(make: Callable[[], torch.Tensor]) -> None:
    with torch.device("meta"):
        expected = make()
    with meta_device():
        found = make()
    assert (found.shape, found.stride(), found.dtype, found.device, found.requires_grad) == (
        expected.shape,
        expected.stride(),
        expected.dtype,
        expected.device,
        expected.requires_grad,
    )


def test_a_module_is_on_the_meta_device() -> None:
    with meta_device():
        module = nn.Sequential(nn.Embedding(3, 4), nn.Conv2d(3, 4, 2), nn.LayerNorm(4))
    assert all(value.is_meta for value in module.state_dict().values())


@pytest.mark.parametrize(
    "options", [{}, {"dtype": torch.float16}, {"device": "cpu"}, {"memory_format": torch.channels_last}]
)
def test_a_tensor_like_another(options: dict[str, Any]) -> None:
    pattern = torch.ones(2, 3, 5, 4, device="meta")
    expected = torch.empty_like(pattern, **options)
    with without_meta_values():
        found = torch.empty_like(pattern, **options)
    assert (found.shape, found.stride(), found.dtype, found.device) == (
        expected.shape,
        expected.stride(),
        expected.dtype,
        expected.device,
    )


def test_a_convnext_of_timm_computes_no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    config = HighResVisionConfig(hidden_sizes=(4, 4, 4, 4), depths=(1, 1, 1, 1))
    monkeypatch.setattr(torch.Tensor, "erfinv_", None)  # torch computes it in Python on the meta device
    with meta_device():
        assert all(value.is_meta for value in HighResEncoder(config).state_dict().values())
    with pytest.raises(TypeError):
        HighResEncoder(config)


def test_a_pipeline_of_diffusers_does_not_restore_the_functions_that_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.models import modeling_utils

    before = nn.init.normal_, dict(modeling_utils.TORCH_INIT_FUNCTIONS)
    with meta_device():
        with modeling_utils.no_init_weights():
            nn.Embedding(3, 4)
        monkeypatch.setattr(torch.Tensor, "normal_", None)
        assert nn.Embedding(3, 4).weight.is_meta
    assert (nn.init.normal_, modeling_utils.TORCH_INIT_FUNCTIONS) == before


@pytest.mark.parametrize("make", MAKERS)
def test_other_devices_get_their_values(make: Callable[[], torch.Tensor]) -> None:
    torch.manual_seed(3)
    expected = make()
    torch.manual_seed(3)
    with without_meta_values():
        found = make()
    assert torch.equal(found, expected)


def test_weights_on_the_cpu_are_initialised_as_usual() -> None:
    torch.manual_seed(3)
    expected = nn.Linear(3, 4).weight
    torch.manual_seed(3)
    with without_meta_values():
        found = nn.Linear(3, 4).weight
    assert torch.equal(found, expected)


def test_torch_is_as_before_after_the_outermost_block() -> None:
    before = (torch.ones, torch.arange, nn.init.normal_)
    with meta_device(), without_meta_values():
        pass
    assert (torch.ones, torch.arange, nn.init.normal_) == before
    with torch.device("meta"):
        assert torch.ones(2).is_meta
