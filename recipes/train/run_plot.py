"""Plot of a run: its losses and its learning rate over the steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mgem_agent.errors import InputError
from mgem_agent.extras import explain_missing
from mgem_agent.recipes.train.run_log import LOG_FILE, read_log

__all__ = ["plot_run"]

_SMOOTHING = 0.9


def plot_run(run: Path, picture: Path) -> None:
    """Plot the log of a run.

    Args:
        run: The run's folder.
        picture: The file to write; its suffix sets the format (`.png`, `.svg`, `.pdf`).

    Raises:
        InputError: If there is no log, or it has no step yet, or the picture cannot be written.
        MissingDependencyError: If matplotlib is not installed.
    """
    records = read_log(run)
    steps = [record for record in records if "loss" in record]
    if not steps:
        raise InputError(f"The log {str(run / LOG_FILE)!r} has no step yet. Wait for the first one, or log every step.")
    with explain_missing("Plotting a log"):
        from matplotlib.figure import Figure
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
    losses.set(xlabel="step", ylabel="loss", title=run.name)
    losses.grid(alpha=0.3)
    rates: Any = losses.twinx()
    rated = [record for record in steps if "learning_rate" in record]
    rates.plot(
        [record["step"] for record in rated],
        [record["learning_rate"] for record in rated],
        color="tab:gray",
        linewidth=0.8,
        linestyle=":",
    )
    rates.set_ylabel("learning rate (dotted)")
    losses.legend()
    try:
        figure.savefig(picture, dpi=120)
    except (OSError, ValueError) as error:
        raise InputError(
            f"The picture {str(picture)!r} cannot be written: {error}. Give a .png in an existing folder."
        ) from error


def _smoothed(values: list[float]) -> list[float]:
    """Return the exponential moving average, corrected for its start."""
    mean, weight, smoothed = 0.0, 0.0, []
    for value in values:
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * value
        weight = _SMOOTHING * weight + (1 - _SMOOTHING)
        smoothed.append(mean / weight)
    return smoothed
