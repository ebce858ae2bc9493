"""`mgem models`: list the released checkpoints, check one, and convert it to this library's layout."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgem_agent.cli.printing import echo_json, open_console

if TYPE_CHECKING:
    from mgem_agent.core_model.checkpoints.inspection import CheckpointReport

__all__ = ["app"]

app = typer.Typer(help="List, check and convert checkpoints of the core model.", no_args_is_help=True)

_NAMES_SHOWN = 10

_FORMATS = {
    "ours": "Mini-Gemini, this library's layout",
    "official": "Mini-Gemini, the authors' layout",
    "clip": "a CLIP vision tower",
    "open_clip": "an open_clip model with a ConvNeXt",
    "stage_1": "mining and projector after stage 1 of the authors' training",
    "unknown": "not a known checkpoint format",
}

_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command("list")
def _list(as_json: _AsJson = False) -> None:
    """List the eleven released checkpoints, and show which are on this machine.

    The network is not used. To download one: hf download YanweiLi/MGM-7B
    """
    from mgem_agent.core_model.checkpoints.cache import cached_folder
    from mgem_agent.core_model.checkpoints.released import RELEASED_CHECKPOINTS

    rows: list[dict[str, Any]] = []
    for released in RELEASED_CHECKPOINTS:
        cached = cached_folder(released.hub_id)
        rows.append(
            {
                "hub_id": released.hub_id,
                "language_model": released.language_model,
                "low_res_size": released.low_res_size,
                "high_res_size": released.high_res_size,
                "num_image_tokens": released.num_image_tokens,
                "prompt_template": released.prompt_template,
                "cached": str(cached) if cached else None,
            }
        )
    if as_json:
        echo_json(rows)
    else:
        _print_list(rows)


def _print_list(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("name", "language model", "px", "tokens", "dialogue", "here"):
        table.add_column(title, overflow="fold", justify="right" if title == "tokens" else "left")
    for row in rows:
        table.add_row(
            row["hub_id"].split("/")[1],
            row["language_model"].split("/")[1],
            f"{row['low_res_size']}/{row['high_res_size']}",
            str(row["num_image_tokens"]),
            row["prompt_template"],
            "yes" if row["cached"] else "no",
        )
    console = open_console()
    console.print(table)
    console.print("\nTo download one: hf download YanweiLi/NAME", soft_wrap=True)


@app.command("check")
def _check(
    path: Annotated[str, typer.Argument(help="nano, a folder, or a downloaded hub id such as YanweiLi/MGM-7B.")],
    as_json: _AsJson = False,
) -> None:
    """Check whether a checkpoint is complete, without loading it into memory.

    Accepts a Mini-Gemini model in the authors' layout or this library's, a CLIP or open_clip encoder, or a stage-1
    mm_projector.bin. Exit status: 0 if all weights are present with the right shapes, 1 if not.
    """
    from mgem_agent.core_model.checkpoints.inspection import inspect_checkpoint

    report = inspect_checkpoint(_folder(path))
    if as_json:
        echo_json(report.to_dict())
    else:
        _print_report(report)
    raise typer.Exit(0 if report.is_complete else 1)


def _folder(path: str) -> str:
    """Return the folder or hub id; for nano its folder, downloaded if needed."""
    if path != "nano" or os.path.isdir(path):
        return path
    from mgem_agent.nano.foreign_warnings import without_foreign_warnings
    from mgem_agent.nano.vision_language import find_nano

    with without_foreign_warnings():
        return str(find_nano())


def _print_report(report: CheckpointReport) -> None:
    """Print the facts as `name  value` lines, then the problems with a few names of each kind."""
    console = open_console(soft_wrap=True)

    def fact(name: str, value: object) -> None:
        console.print(f"[bold]{name:<15}[/]", end="")
        console.print(str(value), markup=False)

    fact("folder", report.path)
    fact("what it is", _FORMATS[report.format])
    if report.family:
        fact("language model", report.family)
        fact("dialogue", report.prompt_template)
    if report.geometry:
        low, high = report.geometry.low_res_input_size, report.geometry.high_res_size
        sizes = f"{low} px" if high is None else f"{low} and {high} px"
        fact("images", f"{sizes}, {report.geometry.num_image_tokens} tokens each")
    if report.files:
        fact("parameters", f"{report.num_parameters:,}")
        fact("size", f"{report.num_bytes / 1e9:,.2f} GB in {len(report.files)} file(s)")
        fact("types", ", ".join(f"{name} ({count} tensors)" for name, count in sorted(report.dtypes.items())))
    for note in report.notes:
        fact("note", note)
    for problem in report.problems:
        fact("problem", problem)
    for title, names in (
        ("missing", report.missing),
        ("unexpected", report.unexpected),
        ("wrong shape", report.mismatched),
    ):
        for name in names[:_NAMES_SHOWN]:
            fact(title, name)
        if len(names) > _NAMES_SHOWN:
            fact(title, f"and {len(names) - _NAMES_SHOWN} more; list all with --json")
    verdict = "[bold green]complete[/]" if report.is_complete else "[bold red]not complete[/]"
    console.print(f"[bold]{'verdict':<15}[/]{verdict}")


@app.command("convert")
def _convert(
    src: Annotated[str, typer.Argument(help="nano, a folder, or a downloaded hub id such as YanweiLi/MGM-7B.")],
    dst: Annotated[str, typer.Argument(help="Folder to create.")],
    dtype: Annotated[str | None, typer.Option(help="float32, float16 or bfloat16. Default: as in the source.")] = None,
    max_shard_size: Annotated[str, typer.Option(help="Maximum size of a weight file.")] = "5GB",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the destination if it is not empty.")] = False,
) -> None:
    """Convert a checkpoint to this library's layout, which transformers can load directly.

    At most one weight file is in memory at a time. The destination folder appears only after everything has been
    written and checked, so an interrupted conversion leaves no partial folder.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from mgem_agent.core_model.checkpoints.conversion import convert_checkpoint

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=open_console(stderr=True), transient=True) as bar:
        task = bar.add_task("Converting", total=None)
        report = convert_checkpoint(
            _folder(src),
            dst,
            dtype=dtype,
            max_shard_size=max_shard_size,
            overwrite=overwrite,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _print_report(report)
