"""The projector: from the width of the visual tokens to that of the language model."""

from __future__ import annotations

import re

from torch import nn

from mgem_agent.errors import InputError

__all__ = ["build_projector"]


def build_projector(projector_type: str, vision_dim: int, text_dim: int) -> nn.Module:
    """Build a projector (b, n, vision_dim) → (b, n, text_dim).

    Args:
        projector_type: `mlpNx_gelu` for N linear layers with an exact GELU between them (the released models have
            `mlp2x_gelu`), `linear`, or `identity`.
        vision_dim: Channels of the visual tokens.
        text_dim: Hidden size of the language model.

    Raises:
        InputError: If there is no such type, or `identity` is requested for different widths.
    """
    if projector_type == "identity":
        if vision_dim != text_dim:
            raise InputError(
                f"projector_type='identity' needs equal widths, got {vision_dim} and {text_dim}. Use 'mlp2x_gelu'."
            )
        return nn.Identity()
    match = re.fullmatch(r"mlp([1-9]\d*)x_gelu", projector_type)
    if projector_type != "linear" and match is None:
        raise InputError(
            f"Unknown projector_type {projector_type!r}. Use 'mlp2x_gelu' (any number of layers), 'linear' or "
            "'identity'."
        )
    layers: list[nn.Module] = [nn.Linear(vision_dim, text_dim)]
    for _ in range(1, int(match[1]) if match else 1):
        layers += [nn.GELU(), nn.Linear(text_dim, text_dim)]
    # A single linear layer keeps its plain name, as in the authors' checkpoints.
    return layers[0] if projector_type == "linear" else nn.Sequential(*layers)
