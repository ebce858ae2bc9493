"""How much of the hardware's speed a training uses: the language model's operations, as a share of measured peak.

Counted are the matrix products of the language model and its head, for a token: 2 operations a weight in the forward
pass, 2 for the gradient of the activations, and 2 for that of each trained weight. Attention, the encoders and
recomputed activations are not counted, and of a mixture only the experts that a token uses. So the share is a lower
bound.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from mgem_agent.core_model import MiniGeminiForConditionalGeneration
from mgem_agent.recipes.train.engines import whole_shape

__all__ = ["flops_per_token", "measured_peak"]


def flops_per_token(model: MiniGeminiForConditionalGeneration) -> float:
    """Return the operations of the language model for one token of a training step.

    Args:
        model: The model, with its trained parts set.
    """
    text: Any = model.config.text_config
    num_experts = getattr(text, "num_local_experts", None) or getattr(text, "num_experts", None) or 1
    used = (getattr(text, "num_experts_per_tok", None) or num_experts) / num_experts
    embedding = model.get_input_embeddings().weight
    total = 0.0
    trunk: Any = model.model.language_model
    counted: list[tuple[str, Any]] = [*trunk.named_parameters(), ("lm_head", model.lm_head.weight)]
    for name, parameter in counted:
        shape = whole_shape(parameter)
        if len(shape) < 2 or (parameter is embedding and name != "lm_head"):
            continue
        share = used if ".experts." in name else 1.0
        total += share * shape.numel() * (6 if parameter.requires_grad else 4)
    return total


def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations a second of a large matrix product on a device.

    Args:
        device: The device.
        dtype: The number format.
    """
    size, repeats = (512, 5) if device.type == "cpu" else (8192, 10)
    left, right = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(repeats):
        _wait(device)
        begin = time.perf_counter()
        torch.mm(left, right)
        _wait(device)
        seconds.append(time.perf_counter() - begin)
    return 2.0 * size**3 / min(seconds)


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()
