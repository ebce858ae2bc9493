"""`mgem bench generator`: options of a local generator, each against the plain pipeline."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from mgem_agent.cli.bench_progress import bench_bar
from mgem_agent.cli.printing import echo_json, open_console

__all__ = ["generator", "split_options"]


def generator(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A generator of this machine: nano, or diffusers:MODEL.")
    ] = "nano",
    tried: Annotated[
        list[str] | None,
        typer.Option(
            "--try",
            metavar="NAME=VALUE",
            help="An option to measure, such as cache=first_block; several with commas; repeatable. Default: those "
            "that change speed or memory.",
        ),
    ] = None,
    number: Annotated[int, typer.Option("-n", min=1, help="Number of pictures in a batch.")] = 2,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Width and height in pixels.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    device: Annotated[str, typer.Option(help="Device: cpu, cuda, cuda:1, ...")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="Number of CPU threads. Default: torch's.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Number of timed batches of each.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Options of a local generator, each against the plain pipeline: seconds, and how much the pictures differ.

    Example: mgem bench generator diffusers:flux-dev --device cuda --try cache=first_block --try compile=blocks
    """
    from mgem_agent.cli.draw import read_generator_options
    from mgem_agent.cli.picture_size import read_size

    variants = [read_generator_options(split_options(line)) for line in tried] if tried else None
    try:
        wanted = read_size(size) if size else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--size") from error
    with bench_bar("generator"):
        from mgem_agent.recipes.bench.generator import bench_generator
        from mgem_agent.recipes.bench.measure import use_threads

        with use_threads(threads):
            result = bench_generator(
                name, variants=variants, number=number, size=wanted, num_steps=steps, device=device, repeats=repeats
            )
    if as_json:
        echo_json(result.model_dump(mode="json"))
    else:
        open_console().print(result.render())


def split_options(line: str) -> list[str]:
    """Split options at the commas outside of brackets.

    Args:
        line: Options as `NAME=VALUE`, with JSON in a value.

    Examples:
        >>> split_options('cache=first_block,cache_options={"threshold": 0.1, "a": 1}')
        ['cache=first_block', 'cache_options={"threshold": 0.1, "a": 1}']
    """
    return [part.strip() for part in re.split(r",(?![^{\[]*[}\]])", line) if part.strip()]
