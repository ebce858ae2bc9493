"""`mgem data get` and `mgem data sources`: the data of the paper's two stages, source by source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mgem_agent.cli.printing import echo

if TYPE_CHECKING:
    from mgem_agent.recipes.data.sources.conversion import SourceReport
    from mgem_agent.recipes.data.sources.mix import MixPlan

__all__ = ["get_data", "list_sources"]


def get_data(
    mix: Annotated[
        str,
        typer.Argument(
            help="pretrain or instruct: each source's own records; mgm_pretrain or mgm_instruct: the authors' files."
        ),
    ],
    root: Annotated[Path, typer.Option(help="Root folder of all data. Both stages can share one.")],
    only: Annotated[
        list[str] | None, typer.Option(help="Get only this source; may be repeated. See: mgem data sources")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is missing and how large it is.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Maximum number of parallel downloads.")] = 4,
) -> None:
    """Get a mix of the paper: download, unpack, convert to one format, and report what is missing.

    What cannot be downloaded is listed, with the place to put it. Run the command again to continue.

    Example: mgem data get pretrain --root data --only llava_pretrain --dry-run
    """
    from mgem_agent.recipes.data.sources.mix import get_mix, plan_mix
    from mgem_agent.user_files import user_path

    folder = user_path(root)
    if dry_run:
        _show_plan(plan_mix(mix, folder, only=only or ()))
        return
    report = get_mix(mix, folder, only=only or (), num_parallel=jobs, report=lambda message: echo(message, err=True))
    _show_table(report.sources)
    for result in report.files:
        if result.state != "here":
            echo(f"{result.state}: {result.file.to}: {result.message}")
    echo(report.path)
    if any(result.state == "failed" for result in report.files):
        raise typer.Exit(1)


def list_sources(
    name: Annotated[str | None, typer.Argument(help="Show everything known about this source.")] = None,
) -> None:
    """List the sources of the paper's mixes, with licence and size; or show one."""
    from mgem_agent.errors import InputError
    from mgem_agent.recipes.data.sources.manifest import load_manifests

    manifests = load_manifests()
    if name is None:
        for manifest in manifests.values():
            mixes = ", ".join(f"{mix} {count:,}" for mix, count in manifest.mixes.items())
            echo(f"{manifest.name:17} {mixes:22} {manifest.title}")
        return
    if name not in manifests:
        raise InputError(f"There is no source {name!r}. Give one of: {', '.join(manifests)}.")
    manifest = manifests[name]
    echo(f"{manifest.title}\nhome: {manifest.home}\nlicence: {manifest.licence}")
    for file in manifest.files:
        echo(f"file: {file.to} from {file.origin}{_size(file.num_bytes or file.about_bytes)}")
    for kind, lines in (("trouble", manifest.trouble), ("unverified", manifest.unverified)):
        for line in lines:
            echo(f"{kind}: {line}")


def _show_plan(plan: MixPlan) -> None:
    for source in plan.sources:
        echo(f"{source.name}: {source.title}; licence: {source.licence}")
        for line in source.trouble:
            echo(f"  known trouble: {line}")
    for result in plan.files:
        file = result.file
        size = "" if result.state == "by hand" else f" from {file.origin}{_size(file.num_bytes or file.about_bytes)}"
        echo(f"{result.state}: {file.to}{size}" + (f": {result.message}" if result.message else ""))
    unknown = f" and {plan.num_unknown} file(s) of unknown size" if plan.num_unknown else ""
    echo(f"To fetch: {_gigabytes(plan.about_bytes)}{unknown}; free: {_gigabytes(plan.free_bytes)}.")
    echo("Unpacking needs about the same space again; delete an archive when it is unpacked.")


def _show_table(rows: Sequence[SourceReport]) -> None:
    width = max(len(row.source) for row in rows)
    echo(f"{'source':{width}} {'paper':>10} {'found':>10} {'got':>10} {'missing':>10} {'broken':>10}")
    for row in rows:
        paper = f"{row.wanted:,}" if row.wanted else ""
        numbers = "".join(f" {count:>10,}" for count in (row.found, row.got, row.missing, row.broken))
        echo(f"{row.source:{width}} {paper:>10}{numbers}" + (f"  {row.note}" if row.note else ""))


def _size(num_bytes: int | None) -> str:
    return "" if num_bytes is None else f" ({_gigabytes(num_bytes)})"


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB"
