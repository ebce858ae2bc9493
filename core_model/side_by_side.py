"""Two independent computations at the same time on a GPU, by two CUDA streams.

The two encoders of an image need each other's results only afterwards. A small batch does not fill a large GPU, so that
both take hardly longer than one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["side_by_side"]

First = TypeVar("First")


def side_by_side(
    first: Callable[[], First], second: Callable[[], list[Tensor]], device: torch.device
) -> tuple[First, list[Tensor]]:
    """Return the results of both.

    They run one after another on other devices, while gradients are recorded, and while a model is compiled.

    Args:
        first: Runs in the current stream.
        second: Runs in a stream of its own; its tensors are used in the current one afterwards.
        device: The device of both.
    """
    if device.type != "cuda" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return first(), second()
    current, other = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    other.wait_stream(current)
    with torch.cuda.stream(other):
        ours = second()
    found = first()
    current.wait_stream(other)
    for tensor in ours:
        tensor.record_stream(current)  # so that its memory is not reused too early
    return found, ours
