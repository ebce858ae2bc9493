"""The low-resolution encoder: a CLIP ViT, of which one hidden state is used.

The tower is transformers' complete `CLIPVisionModel`, so that its weights load and save under their usual names. The
layers above the selected hidden state (the last one, for the released models) and the pooling are not run.
"""

from __future__ import annotations

from torch import Tensor
from transformers import CLIPVisionModel

from mgem_agent.errors import GeometryError

__all__ = ["low_res_features", "unused_low_res_modules"]


def low_res_features(tower: CLIPVisionModel, pixel_values: Tensor, layer: int) -> Tensor:
    """Return one hidden state of the patch tokens; the class token is dropped.

    Args:
        tower: The CLIP vision model.
        pixel_values: (b, 3, h, h) normalised images of the tower's own size.
        layer: Index into the hidden states, as `output_hidden_states` counts them: 0 is the embeddings, -1 the output
            of the last layer, -2 that of the second to last.

    Returns:
        (b, n, c) with n = (h / patch size)² tokens in raster order.

    Raises:
        GeometryError: If there is no such hidden state, or the images do not have the tower's size.
    """
    size = tower.config.image_size
    if tuple(pixel_values.shape[-2:]) != (size, size):
        raise GeometryError(f"The LR encoder takes images of {size}×{size} px, got {tuple(pixel_values.shape)}.")
    hidden_states = tower.pre_layrnorm(tower.embeddings(pixel_values.to(tower.embeddings.patch_embedding.weight.dtype)))
    for encoder_layer in tower.encoder.layers[: _num_layers_run(tower, layer)]:
        hidden_states = encoder_layer(hidden_states, None)
    return hidden_states[:, 1:]


def unused_low_res_modules(tower: CLIPVisionModel, layer: int) -> list[Tensor]:
    """Return the parameters that :func:`low_res_features` never touches, which get no gradient."""
    modules = [tower.post_layernorm, *tower.encoder.layers[_num_layers_run(tower, layer) :]]
    return [parameter for module in modules for parameter in module.parameters()]


def _num_layers_run(tower: CLIPVisionModel, layer: int) -> int:
    available = len(tower.encoder.layers)
    count = layer if layer >= 0 else available + 1 + layer
    if not 0 <= count <= available:
        raise GeometryError(
            f"vision_feature_layer={layer} does not exist: the LR encoder has hidden states 0 to {available}, "
            f"or -{available + 1} to -1."
        )
    return count
