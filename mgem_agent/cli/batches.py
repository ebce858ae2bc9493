"""What the commands for batches share: their options, progress and result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mgem_agent.cli.display.ctrl_c import INTERRUPTED_STATUS
from mgem_agent.cli.printing import echo, echo_json, open_console
from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from mgem_agent.scale.batch import BatchReport, MakeStep
    from mgem_agent.scale.batch_row import BatchItem, BatchRow
    from mgem_agent.scale.ray_cluster import RayOptions
    from mgem_agent.settings import Settings

__all__ = [
    "DEFAULT_WORKERS",
    "Gpus",
    "Ray",
    "Workers",
    "batch_folder",
    "ray_options",
    "run_and_show",
    "seen_by_workers",
]

DEFAULT_WORKERS = 2
STARTS_FOLDER = ".starts"
"""Folder of a batch for what its workers have started."""

Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Run on Ray: local for workers on this machine, or the address of a cluster (auto, HOST:PORT, ray://…).",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="With --ray: number of workers, each with its own models.  [default: 2]"),
]
Gpus = Annotated[
    float | None, typer.Option(min=0, help="With --ray: GPUs of a worker, such as 1 or 0.5.  [default: 0]")
]


def ray_options(address: str | None, workers: int | None, gpus: float | None) -> RayOptions | None:
    """Return where work runs on Ray; None for this process.

    Args:
        address: Value of `--ray`.
        workers: Value of `--workers`.
        gpus: Value of `--gpus`.

    Raises:
        InputError: If an option of Ray is given without `--ray`.
        MissingDependencyError: If the extra `ray` is not installed.
    """
    if address is None:
        for name, value in (("--workers", workers), ("--gpus", gpus)):
            if value is not None:
                raise InputError(f"{name} applies only to work on Ray. Add --ray local, or the address of a cluster.")
        return None
    from mgem_agent.extras import EXTRAS, require_packages
    from mgem_agent.scale.ray_cluster import RayOptions

    require_packages(f"'--ray {address}'", *EXTRAS["ray"])
    return RayOptions(address, num_workers=workers or DEFAULT_WORKERS, num_gpus=gpus or 0.0)


def batch_folder(out: Path) -> Path:
    """Return the folder of a batch as workers name it: absolute."""
    from mgem_agent.user_files import user_path

    return user_path(out).absolute()


def seen_by_workers(settings: Settings, *, on_ray: bool) -> Settings:
    """Return settings for workers, whose current folder and home may be others: a store's folder has an absolute path.

    Args:
        settings: All settings.
        on_ray: Whether the workers are on Ray, where they hold models of their own.
    """
    from mgem_agent.cli.factories import open_store
    from mgem_agent.remote_files import is_address

    is_remote = settings.store is not None and is_address(str(settings.store))
    store = settings.store if is_remote else open_store(settings).root.absolute()
    return settings.model_copy(update={"store": store, "use_server": settings.use_server and not on_ray})


def run_and_show(
    what: str,
    items: Sequence[BatchItem],
    make_step: MakeStep,
    folder: Path,
    ray: RayOptions | None,
    *,
    group_size: int = 1,
    as_json: bool = False,
) -> None:
    """Do what is missing of a batch, show progress on stderr, and print the files.

    Args:
        what: What the items are, as a plural, such as "stories".
        items: All items.
        make_step: Creates the step.
        folder: Folder of the manifest.
        ray: Where it runs; None for this process.
        group_size: Maximum number of items that are done together.
        as_json: Whether to print the rows as one JSON object.

    Raises:
        InputError: If another process is working on the batch.
        Exit: With status 1 if an item failed, 130 if the user stopped the batch.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from mgem_agent.scale.batch import run_batch, run_here
    from mgem_agent.scale.batch_manifest import BatchManifest
    from mgem_agent.scale.ray_batch import RayRunner

    console = open_console(stderr=True, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=None)

        def begin(num_done: int) -> None:
            bars.update(task, total=len(items), completed=num_done)

        def show(row: BatchRow) -> None:
            bars.update(task, advance=1)
            state = "done" if row.status == "done" else f"failed: {row.error}"
            bars.console.print(f"{row.key}: {state} ({row.seconds:.1f} s)", markup=False, highlight=False)

        with BatchManifest(folder) as manifest:
            try:
                run = RayRunner(ray, folder / STARTS_FOLDER) if ray is not None else run_here
                result = run_batch(items, make_step, manifest, run=run, group_size=group_size, begin=begin, report=show)
            except KeyboardInterrupt:
                bars.console.print("Stopped. Run the same command again to continue.")
                raise typer.Exit(INTERRUPTED_STATUS) from None
    _print(what, result, manifest.path, console.print, as_json=as_json)
    if result.failed:
        raise typer.Exit(1)


def _print(what: str, result: BatchReport, path: Path, say: Callable[[str], None], *, as_json: bool) -> None:
    num_failed = len(result.failed)
    num_new = len(result.rows) - result.num_done_before - num_failed
    if as_json:
        echo_json(
            {
                "manifest": str(path),
                "done": num_new,
                "done_before": result.num_done_before,
                "failed": num_failed,
                "rows": [row.to_json() for row in result.rows],
            }
        )
    for row in () if as_json else result.rows:
        if row.status == "done" and row.files:
            echo(row.files[0])
    say(
        f"{len(result.rows):,} {what}: {num_new:,} done, {result.num_done_before:,} done before, {num_failed:,} "
        f"failed. The rows: {path}"
    )
    if num_failed:
        say(f"Run the same command again to repeat those that failed. The first: {result.failed[0].error}")
