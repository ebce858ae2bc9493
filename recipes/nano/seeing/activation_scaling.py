"""Scaling of the weights of mining and the projector to their inputs and targets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgem_agent.recipes.nano.seeing.encoder_features import EncoderFeatures

__all__ = ["fold_norms", "learning_rate_factors", "start_in_scale", "unfold_norms"]


@torch.no_grad()
def start_in_scale(trunk: Any, seen: EncoderFeatures, table: Tensor) -> None:
    """Scale untrained mining and projector to standardised inputs, and to outputs with the statistics of embeddings.

    Some channels of a ViT's inner layers are far larger than the others. The stages of a ConvNeXt differ in scale. The
    mined part is negligible next to a token. Word embeddings are small and have a large common mean. Learning any of
    this by gradient descent takes longer than all the rest.

    Args:
        trunk: Trunk of the model; its mining and projector are changed.
        seen: Features of a few images.
        table: (V, d) embeddings of words.
    """
    mining = trunk.mining
    for norm, _, given in _norms(mining, seen):
        _standardise(norm, given)
    spread = seen.low.flatten(0, 1).std(0).clamp(min=1e-3)
    wanted = spread / (seen.mined(trunk) - seen.low).flatten(0, 1).std(0).clamp(min=1e-6)
    mining.value_norm.weight *= wanted.median()
    mining.value_norm.bias *= wanted.median()
    mining.value_proj.weight *= (wanted / wanted.median())[:, None]
    layers: list[Any] = [layer for layer in trunk.multi_modal_projector.modules() if isinstance(layer, nn.Linear)]
    tokens = seen.mined(trunk).flatten(0, 1)
    mean, std = tokens.mean(0), tokens.std(0).clamp(min=1e-3)
    layers[0].weight /= std
    layers[0].bias -= layers[0].weight @ mean
    given = trunk.multi_modal_projector(tokens)
    middle = table.mean(0)
    layers[-1].weight *= (table - middle).square().mean().sqrt() / (given - given.mean(0)).square().mean().sqrt()
    layers[-1].bias += middle - trunk.multi_modal_projector(tokens).mean(0)


def _standardise(norm: nn.LayerNorm, given: Tensor) -> tuple[Tensor, Tensor]:
    """Make a norm standardise each channel of its input, and return the spread and mean that it removes."""
    normalised = F.layer_norm(given, norm.normalized_shape, eps=norm.eps).flatten(0, -2)
    std, mean = torch.std_mean(normalised, 0)
    std = std.clamp(min=0.1 * std.mean())
    norm.weight.copy_(1 / std)
    norm.bias.copy_(-mean / std)
    return std, mean


def _norms(mining: Any, seen: EncoderFeatures) -> Iterator[tuple[Any, Any, Tensor]]:
    """Yield each of mining's norms, the layer after it, and its input, (…, channels)."""
    size = seen.high[0].shape[-2:]
    pixels = torch.cat([F.interpolate(each, size, mode="bilinear") for each in seen.high], 1).movedim(1, -1)
    yield mining.query_norm, mining.query_proj, seen.low
    yield mining.key_norm, mining.key_proj, pixels
    yield mining.value_norm, mining.value_proj, pixels


@torch.no_grad()
def unfold_norms(trunk: Any, seen: EncoderFeatures) -> None:
    """Undo `fold_norms`: move the factors and offsets that standardise each channel back into mining's norms.

    Folded layers have columns whose scales differ by thousands, which cannot be trained.

    Args:
        trunk: Trunk of the model; the weights of its mining are changed, but not its output.
        seen: Features of a few images.
    """
    fold_norms(trunk.mining)
    for norm, layer, given in _norms(trunk.mining, seen):
        std, mean = _standardise(norm, given)
        layer.bias += layer.weight @ mean
        layer.weight *= std


@torch.no_grad()
def fold_norms(mining: Any) -> None:
    """Move the factors and offsets of mining's norms into the layers after them, where they fit into float16.

    Args:
        mining: Its weights are changed, but not its output.
    """
    for norm, layer in (
        (mining.query_norm, mining.query_proj),
        (mining.key_norm, mining.key_proj),
        (mining.value_norm, mining.value_proj),
    ):
        layer.bias += layer.weight @ norm.bias
        layer.weight *= norm.weight
        norm.weight.fill_(1.0)
        norm.bias.zero_()


def learning_rate_factors(parts: nn.Module) -> dict[nn.Parameter, float]:
    """Return the scale of each layer's weights relative to fresh ones, a factor on its learning rate for Adam."""
    factors: dict[nn.Parameter, float] = {}
    for layer in parts.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.LayerNorm):
            fresh = 1.0 if isinstance(layer, nn.LayerNorm) else (3 * layer.weight[0].numel()) ** -0.5
            size = layer.weight.detach().square().mean().sqrt().item() / fresh
            factors |= dict.fromkeys(layer.parameters(), size)
    return factors
