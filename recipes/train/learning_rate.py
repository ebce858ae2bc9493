"""The learning rate of every step: a linear warm-up, then half a cosine. A pure function, so that nothing is saved."""

from __future__ import annotations

import math

__all__ = ["learning_rate_factor"]


def learning_rate_factor(step: int, num_steps: int, *, warmup_ratio: float, final_ratio: float = 0.0) -> float:
    """Return the factor on the peak learning rate.

    Args:
        step: The step that is about to be made, counted from 0.
        num_steps: Steps of the whole run.
        warmup_ratio: Part of them in which the rate rises.
        final_ratio: What is left of the peak at the end.

    Returns:
        A number in [0, 1]; that of `transformers.get_cosine_schedule_with_warmup` where `final_ratio` is 0.
    """
    num_warmup = math.ceil(num_steps * warmup_ratio)
    if step < num_warmup:
        return step / max(1, num_warmup)
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return final_ratio + (1 - final_ratio) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
