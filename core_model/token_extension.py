"""Visual token extension: a larger picture as its scaled-down global image followed by a grid of crops.

Paper, section 3.2 ("visual token extension"). The LR encoder sees every crop at its own size; the language model gets
the tokens of the global image first, then those of each crop, crops in raster order and tokens in raster order inside a
crop. Mining needs no crops of the high-resolution map: the crops' tokens, arranged over the full picture, have the same
windows.

Shapes: b images; g crops per side; L pixels per side of a crop; n tokens per side of a crop; c channels.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["crops_to_raster", "global_image", "raster_to_crops", "split_crops"]


def split_crops(pixel_values: Tensor, grid: int) -> Tensor:
    """Cut images (b, 3, g·L, g·L) into crops (b·g², 3, L, L), grouped by image, in raster order."""
    batch, channels, height, width = pixel_values.shape
    crops = pixel_values.reshape(batch, channels, grid, height // grid, grid, width // grid)
    return crops.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def global_image(pixel_values: Tensor, grid: int) -> Tensor:
    """Scale images (b, 3, g·L, g·L) down to one crop (b, 3, L, L): bilinear, in float32, without antialias."""
    size = pixel_values.shape[-1] // grid
    scaled = F.interpolate(pixel_values.float(), size=(size, size), mode="bilinear", align_corners=False)
    return scaled.to(pixel_values.dtype)


def crops_to_raster(tokens: Tensor, grid: int, tokens_per_side: int) -> Tensor:
    """Arrange the tokens of the crops (b·g², n², c) over the full picture: (b, (g·n)², c) in raster order."""
    tokens = tokens.reshape(-1, grid, grid, tokens_per_side, tokens_per_side, tokens.shape[-1])
    return tokens.transpose(2, 3).flatten(1, 4)  # (b, g, n, g, n, c) -> (b, (g·n)², c)


def raster_to_crops(tokens: Tensor, grid: int, tokens_per_side: int) -> Tensor:
    """Undo :func:`crops_to_raster`, with the crops one after another: (b, (g·n)², c) → (b, g²·n², c)."""
    tokens = tokens.reshape(-1, grid, tokens_per_side, grid, tokens_per_side, tokens.shape[-1])
    return tokens.transpose(2, 3).flatten(1, 4)
