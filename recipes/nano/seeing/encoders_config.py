"""The settings of the recipe `clip_pretrain`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mgem_agent.recipes.nano.pretraining import Count, Decay, PretrainingConfig, Rate

__all__ = ["EncodersConfig"]


class EncodersConfig(PretrainingConfig):
    """Settings of the recipe `clip_pretrain`.

    Attributes:
        low_res_px: Side of the ViT's pictures.
        high_res_px: Side of the high-resolution pictures.
        window_px: Side of the window that the ConvNeXt trains on.
        patch_px: Side of the ViT's patches.
        width: Hidden size of the ViT and of the text encoder.
        num_layers: Layers of the ViT.
        num_text_layers: Layers of the text encoder.
        convnext: timm's name of the ConvNeXt.
        embed_dim: Dimension of the common embedding space.
        vocab_size: Size of the tokenizer's vocabulary.
        max_tokens: Maximum tokens of a caption.
        towers: The encoders to train: `both`, `low` or `high`. One process for each uses two cores better.
    """

    num_steps: Count = 6_000
    batch_size: Count = 24
    learning_rate: Rate = 1e-3
    weight_decay: Decay = 0.05
    low_res_px: int = Field(default=128, ge=16)
    high_res_px: int = Field(default=256, ge=32)
    window_px: int = Field(default=128, ge=32, multiple_of=32)
    patch_px: int = Field(default=16, ge=1)
    width: int = Field(default=256, ge=16, multiple_of=16)
    num_layers: int = Field(default=6, ge=2)
    num_text_layers: int = Field(default=3, ge=1)
    convnext: str = "convnext_atto"
    embed_dim: int = Field(default=256, ge=8)
    vocab_size: int = Field(default=2_048, ge=300)
    max_tokens: int = Field(default=40, ge=8)
    towers: Literal["both", "low", "high"] = "both"
