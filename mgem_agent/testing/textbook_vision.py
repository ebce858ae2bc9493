"""The authors' computation of visual tokens from pixels, with the weights of a given model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration
from mgem_agent.testing.textbook_mining import TextbookPatchInfoMining, concatenate_stage_maps

__all__ = ["textbook_image_features"]


def textbook_image_features(
    model: MiniGeminiForConditionalGeneration, pixel_values: Tensor, high_res_pixel_values: Tensor
) -> Tensor:
    """Encode images with every intermediate tensor: all CLIP layers, and the concatenated map at 1/4 scale, cropped.

    Args:
        model: The model whose weights are used.
        pixel_values: (i, 3, h, h) normalised LR images.
        high_res_pixel_values: (i, 3, H, H) normalised HR images.

    Returns:
        (i, tokens, d), the global image's tokens first.
    """
    config = model.config
    trunk: Any = model.model
    grid, size, batch = config.image_grid, config.vision_config.image_size, len(pixel_values)
    dtype = trunk.vision_tower.dtype
    with torch.device("meta"):  # the weights are shared, so none are initialised
        mining = TextbookPatchInfoMining(trunk.mining.query_dim, trunk.mining.candidate_dim)
    mining.load_state_dict(trunk.mining.state_dict(), assign=True)

    pixels = concatenate_stage_maps(trunk.high_res_vision_tower(high_res_pixel_values.to(dtype)))
    finest = pixels.shape[-2:]
    if grid > 1:
        crops = pixel_values.reshape(batch, 3, grid, size, grid, size).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        pieces = pixels.reshape(batch, -1, grid, finest[0] // grid, grid, finest[1] // grid)
        pieces = pieces.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    else:
        crops, pieces = pixel_values, pixels

    tokens = mining(_clip(model, crops), [pieces]).reshape(batch, -1, trunk.mining.query_dim)
    if config.image_global:
        small = F.interpolate(pixel_values.float(), size=(size, size), mode="bilinear", align_corners=False)
        reduced = F.interpolate(pixels.float(), scale_factor=1 / grid, mode="bilinear", align_corners=False)
        whole = mining(_clip(model, small.to(pixel_values.dtype)), [reduced.to(dtype)])
        tokens = torch.cat([whole, tokens], dim=1)
    features: Tensor = trunk.multi_modal_projector(tokens)
    return features


def _clip(model: MiniGeminiForConditionalGeneration, images: Tensor) -> Tensor:
    tower = model.model.vision_tower
    output = tower(images.to(tower.dtype), output_hidden_states=True)
    tokens: Tensor = output.hidden_states[model.config.vision_feature_layer][:, 1:]
    return tokens
