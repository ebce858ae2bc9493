"""The number format of a training."""

from __future__ import annotations

import torch

from mgem_agent.core_model.quantization import default_dtype
from mgem_agent.recipes.train.config import Precision

__all__ = ["training_dtype"]


def training_dtype(precision: Precision) -> torch.dtype:
    """Return bfloat16 or float32; `auto` takes the one that the hardware multiplies fastest.

    Args:
        precision: The setting of a configuration.
    """
    if precision != "auto":
        return torch.bfloat16 if precision == "bf16" else torch.float32
    best = default_dtype("cuda" if torch.cuda.is_available() else "cpu")
    return best if best == torch.bfloat16 else torch.float32  # float16 would need loss scaling
