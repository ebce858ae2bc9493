"""The number format that suits a device best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["default_dtype"]


def default_dtype(device: torch.device | str) -> torch.dtype:
    """Return the best dtype for a model on a device.

    It is bfloat16, the dtype of the released weights, if the hardware supports it, else float16 on a GPU. A CPU that
    must emulate bfloat16 is several times faster in float32.

    Args:
        device: The device that runs the model.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if kind == "cpu":
        # If torch is too old to report the CPU's features, use float32, which always works.
        capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        native = any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "sve_bf16", "bf16"))
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16
