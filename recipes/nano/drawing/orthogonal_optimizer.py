"""Muon (Jordan et al., 2024) for kernels and matrices, AdamW for all other parameters.

Muon replaces the averaged gradient of a matrix by the nearest orthogonal matrix, so that all directions are learned at
the same speed. A small network learns in fewer steps. A kernel is a matrix of output channels by everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor

from mgem_agent.recipes.train.precision import training_dtype

__all__ = ["OrthogonalOptimizer"]

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration that pulls all singular values near one."""
_ITERATIONS = 5


class OrthogonalOptimizer(torch.optim.Optimizer):
    """Muon for the groups with `is_orthogonal`, AdamW for the others.

    Args:
        groups: Parameter groups with `lr` and `weight_decay`, and `is_orthogonal` where a group is for Muon.
        betas: Decays of AdamW's averages.
        momentum: Decay of Muon's average, which looks one step ahead (Nesterov).
    """

    def __init__(
        self, groups: list[dict[str, Any]], betas: tuple[float, float] = (0.9, 0.98), momentum: float = 0.95
    ) -> None:
        super().__init__(groups, {"is_orthogonal": False, "betas": betas, "momentum": momentum, "eps": 1e-8})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Change the parameters by their gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    move = self._orthogonal if group["is_orthogonal"] else self._adaptive
                    parameter.sub_(move(parameter, group), alpha=group["lr"])
        return None

    def _orthogonal(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["average"] = torch.zeros_like(parameter)
        gradient: Any = parameter.grad
        average: Tensor = state["average"].lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(average, group["momentum"]).reshape(len(parameter), -1)
        rows, columns = ahead.shape
        # 0.2: steps of the same size as AdamW's (Liu et al., 2025)
        return (orthogonal(ahead) * (0.2 * max(rows, columns) ** 0.5)).view_as(parameter)

    def _adaptive(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["count"] = torch.zeros(())
            state["average"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        first, second = group["betas"]
        state["count"] += 1
        count = float(state["count"])
        average: Tensor = state["average"].lerp_(parameter.grad, 1 - first)
        square: Tensor = state["square"].mul_(second).addcmul_(parameter.grad, parameter.grad, value=1 - second)
        spread = (square / (1 - second**count)).sqrt_().add_(group["eps"])
        return average.div(spread).div_(1 - first**count)


def orthogonal(matrix: Tensor) -> Tensor:
    """Return the nearest (semi-)orthogonal matrix of a matrix, approximately, by Newton and Schulz's iteration."""
    is_tall = matrix.shape[0] > matrix.shape[1]
    # bfloat16 is exact enough for the iteration
    found = (matrix.T if is_tall else matrix).to(training_dtype("auto", matrix.device))
    found = found / (found.norm() + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = found @ found.T
        found = a * found + (b * gram + c * gram @ gram) @ found
    return (found.T if is_tall else found).to(matrix.dtype)
