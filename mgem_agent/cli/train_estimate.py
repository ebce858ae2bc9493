"""`mgem train CONFIG --dry-run`: what a run will need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mgem_agent.cli.printing import echo

if TYPE_CHECKING:
    from mgem_agent.recipes.train.config import TrainConfig
    from mgem_agent.recipes.train.dry_run import RunEstimate

__all__ = ["show_estimate"]


def show_estimate(config: TrainConfig, num_processes: int, measured: Path | None) -> None:
    """Print what a run will need.

    Args:
        config: The run.
        num_processes: Number of processes.
        measured: Folder of a short run, whose steps give the hours; None for no hours.
    """
    from mgem_agent.recipes.train.dry_run import estimate_run, seconds_per_step

    step_s = None if measured is None else seconds_per_step(measured)
    estimate = estimate_run(config, num_processes=num_processes, step_s=step_s)
    echo(f"{'part':24} {'trained':>16} {'frozen':>16}")
    for part in estimate.parts:
        echo(f"{part.name:24} {part.num_trained:>16,} {part.num_frozen:>16,}")
    trained, frozen = (sum(getattr(part, name) for part in estimate.parts) for name in ("num_trained", "num_frozen"))
    echo(f"{'all':24} {trained:>16,} {frozen:>16,}")
    echo(f"\nGB of each of {num_processes} process(es), without activations and buffers:")
    echo(f"{'method':28} {'weights':>9} {'gradients':>9} {'optimizer':>9} {'all':>9}")
    for row in estimate.memory:
        numbers = "".join(f" {value / 1e9:>9,.2f}" for value in (row.weights, row.gradients, row.optimizer, row.total))
        echo(f"{row.method:28}{numbers}")
    echo(
        f"Activations of {config.run.micro_batch} record(s) of {config.data.max_length:,} tokens: about "
        f"{estimate.activation_bytes / 1e9:,.2f} GB. Each process accumulates {estimate.accumulation} micro-batch(es)."
    )
    _show_length(config, estimate)


def _show_length(config: TrainConfig, estimate: RunEstimate) -> None:
    for path in estimate.missing:
        echo(f"The data {path} are not here, so steps and tokens are unknown. Get them with: mgem data get")
    if estimate.data is None:
        return
    data = estimate.data
    echo(
        f"\n{data.num_records:,} records; {data.num_steps:,} steps of {config.run.global_batch}; about "
        f"{data.num_tokens:,} tokens"
    )
    if estimate.hours is None:
        echo(
            "Hours: measure a step, and give its folder as --measured: mgem train CONFIG run.max_steps=20 "
            "run.log_every=5 run.output=runs/measured"
        )
    else:
        echo(f"Hours: {estimate.hours:,.2f}, if every step takes as long as those measured")
