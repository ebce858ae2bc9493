import pytest
import torch
from torch import nn

from mgem_agent.core_model.projector import build_projector
from mgem_agent.errors import InputError


def test_released_projector_has_the_authors_indices() -> None:
    assert list(build_projector("mlp2x_gelu", 4, 6).state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_number_of_layers_follows_the_name() -> None:
    layers = [module for module in build_projector("mlp4x_gelu", 4, 6).modules() if isinstance(module, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(4, 6), (6, 6), (6, 6), (6, 6)]


def test_linear_and_identity() -> None:
    tokens = torch.randn(1, 2, 4)
    assert list(build_projector("linear", 4, 6).state_dict()) == ["weight", "bias"]
    assert torch.equal(build_projector("identity", 4, 4)(tokens), tokens)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mlp0x_gelu", "Unknown projector_type 'mlp0x_gelu'"),
        ("resampler", "'mlp2x_gelu'"),
        ("identity", "equal widths, got 4 and 6"),
    ],
)
def test_refuses_unknown_projectors(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_projector(name, 4, 6)
