"""`mgem data ocr`: the text of pictures, added to the questions about them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgem_agent.cli.cores import num_cores
from mgem_agent.cli.printing import echo, open_console

__all__ = ["add_ocr"]


def add_ocr(
    source: Annotated[Path, typer.Argument(help="Records: .jsonl or .json.")],
    out: Annotated[Path, typer.Argument(help="Output file (.jsonl). Its pictures are those of SOURCE.")],
    images: Annotated[Path | None, typer.Option(help="Folder of the pictures. Default: the folder of SOURCE.")] = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out texts that were recognised with less confidence.")
    ] = 0.5,
    max_chars: Annotated[
        int | None, typer.Option(min=1, help="Maximum characters added to a question. Default: no limit.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Number of worker processes. Default: one per core.")
    ] = None,
) -> None:
    """Add the text of pictures to the questions about them, as "Reference OCR token: a, b".

    The paper does this for its document, chart and diagram questions, in training only. Needs the extra "ocr". Run the
    command again to continue it.

    Example: mgem data ocr data/records/docvqa.jsonl data/records/docvqa_ocr.jsonl --images data
    """
    from rich.progress import Progress

    from mgem_agent.recipes.data.ocr import OcrSettings, write_ocr

    console = open_console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Records", total=None)
        found = write_ocr(
            source,
            out,
            images=images,
            settings=OcrSettings(min_confidence, max_chars),
            num_processes=processes or num_cores(),
            report=lambda done, total: progress.update(task, completed=done, total=total),
        )
    echo(out)
    before = f", {found.num_done_before:,} done before" if found.num_done_before else ""
    echo(f"{found.states.total():,} records, {found.num_texts:,} texts added{before}")
    for state, count in found.states.most_common():
        echo(f"{state}: {count:,}")
    if found.last_problem:
        echo(f"The last that was not read: {found.last_problem}", err=True)
