"""A picture of a run: its losses and its learning rate over the steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mgem_agent.errors import InputError, MissingDependencyError
from mgem_agent.recipes.train.run_log import LOG_FILE, read_log

__all__ = ["plot_run"]

_SMOOTHING = 0.9


def plot_run(run: Path, picture: Path) -> None:
    """Draw the log of a run.

    Args:
        run: The run's folder.
        picture: The file to make; its ending says the format (`.png`, `.svg`, `.pdf`).

    Raises:
        InputError: If there is no log, or nothing in it yet.
        MissingDependencyError: If matplotlib is not installed.
    """
    records = read_log(run)
    steps = [record for record in records if "loss" in record]
    if not steps:
        raise InputError(
            f"The log {str(run / LOG_FILE)!r} has no step yet. Wait for the first, or set run.log_every=1."
        )
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("Drawing a log", "matplotlib", "train") from error
    figure = Figure(figsize=(9, 5), layout="constrained")
    losses: Any = figure.add_subplot()
    numbers = [record["step"] for record in steps]
    losses.plot(numbers, [record["loss"] for record in steps], color="tab:blue", alpha=0.3, label="training")
    losses.plot(numbers, _smoothed([record["loss"] for record in steps]), color="tab:blue", label="training, smoothed")
    held_out = [record for record in records if "evaluation_loss" in record]
    if held_out:
        losses.plot(
            [record["step"] for record in held_out],
            [record["evaluation_loss"] for record in held_out],
            "o-",
            color="tab:red",
            label="held out",
        )
    losses.set(xlabel="step", ylabel="loss of a token", title=run.name)
    losses.grid(alpha=0.3)
    rates: Any = losses.twinx()
    rates.plot(numbers, [record["learning_rate"] for record in steps], color="tab:gray", linewidth=0.8, linestyle=":")
    rates.set_ylabel("learning rate (dotted)")
    losses.legend()
    try:
        figure.savefig(picture, dpi=120)
    except (OSError, ValueError) as error:
        raise InputError(
            f"The picture {str(picture)!r} cannot be written: {error}. Name a .png in a folder that is there."
        ) from error


def _smoothed(values: list[float]) -> list[float]:
    """The running mean, unbiased at the beginning."""
    mean, weight, smoothed = 0.0, 0.0, []
    for value in values:
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * value
        weight = _SMOOTHING * weight + (1 - _SMOOTHING)
        smoothed.append(mean / weight)
    return smoothed
