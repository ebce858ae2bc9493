"""Features of the two encoders, before mining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mgem_agent.core_model.low_res_encoder import low_res_features

__all__ = ["EncoderFeatures", "encode_images"]


@dataclass(frozen=True, slots=True)
class EncoderFeatures:
    """Features of some images: `low` is (B, n, c), `high` has the stage maps (B, c_s, h_s, h_s)."""

    low: Tensor
    high: Sequence[Tensor]

    def to(self, device: torch.device) -> EncoderFeatures:
        """Return the same on a device."""
        return EncoderFeatures(self.low.to(device), [each.to(device) for each in self.high])

    def mined(self, trunk: Any) -> Tensor:
        """Return (B, n, c) the tokens after mining."""
        tokens: Tensor = trunk.mining(self.low, self.high)
        return tokens


def encode_images(trunk: Any, pixels: Any) -> EncoderFeatures:
    """Run only the encoders.

    Args:
        trunk: Trunk of the model.
        pixels: Images from the processor.
    """
    low = low_res_features(trunk.vision_tower, pixels["pixel_values"], trunk.config.vision_feature_layer)
    return EncoderFeatures(low, trunk.high_res_vision_tower(pixels["high_res_pixel_values"]))
