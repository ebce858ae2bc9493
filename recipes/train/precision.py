"""The number format of a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mgem_agent.core_model.dtype import default_dtype
from mgem_agent.recipes.train.config import Precision

__all__ = ["bf16_where_fast", "matmul_precision", "training_dtype"]


def training_dtype(precision: Precision, device: torch.device | str | None = None) -> torch.dtype:
    """Return bfloat16 or float32; `auto` takes the one that the hardware multiplies fastest.

    Args:
        precision: The setting of a configuration.
        device: The device that computes; by default the GPU, if there is one.
    """
    if precision != "auto":
        return torch.bfloat16 if precision == "bf16" else torch.float32
    best = default_dtype(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return best if best == torch.bfloat16 else torch.float32  # float16 would need loss scaling


def bf16_where_fast(device: torch.device | str, precision: Precision = "auto") -> torch.autocast:
    """Return autocast to bfloat16 on a device that computes in it; elsewhere it changes nothing.

    A CPU that emulates bfloat16 may be seventy times slower than in float32.

    Args:
        device: The device.
        precision: The setting of a configuration; `auto` decides by the device.
    """
    is_wanted = training_dtype(precision, device) == torch.bfloat16
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=is_wanted)


@contextmanager
def matmul_precision(precision: Precision) -> Iterator[None]:
    """Multiply float32 matrices in TF32 for a while, if the setting is `tf32`; otherwise exactly.

    TF32 has the range of float32 and the 10 bits of mantissa of float16. Only NVIDIA GPUs since Ampere have it;
    elsewhere nothing changes.

    Args:
        precision: The setting of a configuration.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" and torch.cuda.is_available() else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
