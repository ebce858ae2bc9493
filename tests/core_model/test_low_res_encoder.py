import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from mgem_agent.core_model.low_res_encoder import low_res_features, unused_low_res_modules
from mgem_agent.errors import GeometryError


@pytest.fixture
def tower() -> CLIPVisionModel:
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=7
    )
    return CLIPVisionModel(config).eval()


@pytest.mark.parametrize("layer", [-4, -2, -1, 0, 2, 3])
def test_is_the_hidden_state_of_that_name(tower: CLIPVisionModel, layer: int) -> None:
    pixels = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        expected = tower(pixels, output_hidden_states=True).hidden_states[layer][:, 1:]
        torch.testing.assert_close(low_res_features(tower, pixels, layer), expected)


def test_layers_above_it_are_not_run(tower: CLIPVisionModel) -> None:
    tower.encoder.layers[2].register_forward_hook(lambda *_: pytest.fail("the last layer was run"))
    assert low_res_features(tower, torch.randn(1, 3, 28, 28), -2).shape == (1, 16, 16)
    unused = unused_low_res_modules(tower, -2)
    assert len(unused) == 2 + sum(1 for _ in tower.encoder.layers[2].parameters())


@pytest.mark.parametrize("layer", [4, -5])
def test_refuses_a_hidden_state_that_does_not_exist(tower: CLIPVisionModel, layer: int) -> None:
    with pytest.raises(GeometryError, match=f"vision_feature_layer={layer} .* 0 to 3, or -4 to -1"):
        low_res_features(tower, torch.randn(1, 3, 28, 28), layer)


def test_refuses_another_size(tower: CLIPVisionModel) -> None:
    with pytest.raises(GeometryError, match=r"28×28 px, got \(1, 3, 56, 56\)"):
        low_res_features(tower, torch.randn(1, 3, 56, 56), -2)
