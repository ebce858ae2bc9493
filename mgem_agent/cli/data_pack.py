"""`mgem data pack` and `mgem data index`: records in shards, and where each record is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgem_agent.cli.cores import num_cores
from mgem_agent.cli.printing import echo, open_console

__all__ = ["index_data", "pack_data"]


def pack_data(
    source: Annotated[Path, typer.Argument(help="Records: .jsonl, .json, .parquet, or a folder of Parquet files.")],
    out: Annotated[str, typer.Argument(help="Output folder, or an address such as s3://bucket/folder.")],
    images: Annotated[Path | None, typer.Option(help="Folder of the pictures. Default: the folder of SOURCE.")] = None,
    shard_records: Annotated[int, typer.Option(min=1, help="Number of records in a shard.")] = 2000,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Number of worker processes. Default: one per core.")
    ] = None,
) -> None:
    """Pack records and their pictures into tar shards (webdataset's form), with an index.

    A training reads shards from a disk, from s3:// or from the hub, and scans nothing when it starts. Run the command
    again to continue it.

    Example: mgem data pack data/records/llava_pretrain.jsonl data/packed/llava_pretrain --images data
    """
    from rich.progress import Progress

    from mgem_agent.recipes.data.shards.pack import DROPPED_FILE, pack_records

    console = open_console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Shards", total=None)
        packed = pack_records(
            source,
            out,
            images=images,
            shard_records=shard_records,
            num_processes=processes or num_cores(),
            report=lambda done, total: progress.update(task, completed=done, total=total),
        )
    echo(out)
    echo(
        f"{packed.num_records:,} records, {packed.num_images:,} pictures, {packed.num_shards:,} shard(s), "
        f"{packed.num_bytes / 1e9:,.2f} GB"
    )
    for reason, count in packed.dropped.most_common():
        echo(f"left out {count:,}: {reason}; see {DROPPED_FILE} of the folder")


def index_data(
    path: Annotated[str, typer.Argument(help="A folder of .tar shards or its address; or a .jsonl or .json file.")],
) -> None:
    """Index records that are already there, so that a training does not scan them when it starts.

    "mgem data pack" indexes its shards itself.
    """
    from mgem_agent.recipes.data.shards.pack import index_folder

    index = index_folder(path)
    echo(f"{len(index):,} records, {int(index.num_images.sum()):,} pictures, {len(index.files):,} file(s)")
    if index.problems:
        place, (reason, message) = next(iter(index.problems.items()))
        echo(f"{len(index.problems):,} cannot be used; the first: record {place}: {reason}: {message}")
