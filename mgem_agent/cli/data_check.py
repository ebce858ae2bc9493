"""`mgem data check`: every record of a run as the trainer will read it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mgem_agent.cli.cores import num_cores
from mgem_agent.cli.printing import echo, open_console

if TYPE_CHECKING:
    from mgem_agent.recipes.train.data_check import CheckReport

__all__ = ["check_data"]

_SHOWN = 20
_BAR_CHARS = 40


def check_data(
    config: Annotated[str, typer.Argument(help="A training configuration: a YAML file or a name.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Values that override the configuration.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the list of records that would be dropped here (.jsonl).")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Number of worker processes. Default: one per core.")
    ] = None,
) -> None:
    """Check every record of a run with the model's processor: form, pictures, tokens.

    No weights are loaded. Prints a histogram of the lengths and what would be dropped. Exit status 1 if a record would
    stop the run.

    Example: mgem data check mgm_7b_instruct --out dropped.jsonl
    """
    from rich.progress import Progress

    from mgem_agent.recipes.train.config_file import load_config
    from mgem_agent.recipes.train.data_check import check_records, checked_examples

    settings = load_config(config, overrides or ())
    examples = checked_examples(settings)
    console = open_console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Records", total=len(examples))
        found = check_records(
            examples, processes or num_cores(), report=lambda done: progress.update(task, completed=done)
        )
    _show(found)
    if out is not None:
        out.write_text(
            "".join(json.dumps(dataclasses.asdict(record)) + "\n" for record in found.dropped), encoding="utf-8"
        )
        echo(out)
    if found.dropped and settings.data.on_broken == "error":
        echo("These records would stop the run. Correct them, or skip them with data.on_broken=skip.", err=True)
        raise typer.Exit(1)


def _show(found: CheckReport) -> None:
    from mgem_agent.recipes.train.broken_report import by_source

    echo(f"{found.num_records.total():,} records, {found.num_images:,} pictures, {sum(found.lengths):,} tokens")
    quantiles = ", ".join(f"{share:.0%}: {found.quantile(share):,}" for share in (0.5, 0.9, 0.99, 1.0))
    echo(f"tokens of a record, visual tokens included, at most: {quantiles}")
    bins = found.histogram()
    most = max(count for _, count in bins) or 1
    for edge, count in bins:
        echo(f"{f'<= {edge:,}':>12} {count:>10,} {'#' * round(_BAR_CHARS * count / most)}".rstrip())
    for line in by_source(found.repairs):
        echo(f"repaired: {line}")
    echo(f"{len(found.dropped):,} records would be dropped")
    for line in by_source(found.problems):
        echo(f"dropped: {line}")
    for record in found.dropped[:_SHOWN]:
        echo(f"  {record.file}, record {record.position}: {record.reason}: {record.message}")
    if len(found.dropped) > _SHOWN:
        echo(f"  and {len(found.dropped) - _SHOWN:,} more; list them all with --out FILE")
