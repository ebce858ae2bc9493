"""`mgem bench all`: every benchmark with its default options, printed as it comes and written to a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgem_agent.cli.bench_progress import bench_bar
from mgem_agent.cli.printing import echo, echo_json, open_console
from mgem_agent.errors import InputError, MgemError

if TYPE_CHECKING:
    from mgem_agent.recipes.bench.report import BenchResult

__all__ = ["BENCHMARKS", "run_all"]


def _mining() -> Any:
    from mgem_agent.recipes.bench.mining import bench_mining

    return bench_mining()


def _vision() -> Any:
    from mgem_agent.recipes.bench.vision import bench_vision

    return bench_vision()


def _rounds() -> Any:
    from mgem_agent.recipes.bench.rounds import bench_rounds

    return bench_rounds()


def _agent() -> Any:
    from mgem_agent.recipes.bench.agent import bench_agent

    return bench_agent()


def _story() -> Any:
    from mgem_agent.cli.bench_story import tell_story
    from mgem_agent.recipes.bench.story import bench_story

    return bench_story(tell_story)


def _page() -> Any:
    from mgem_agent.cli.bench_page import counted_story
    from mgem_agent.recipes.bench.page import bench_page
    from mgem_agent.settings import load_settings

    settings = load_settings()
    return bench_page(counted_story(settings), reasoner=settings.model, generator=settings.generator)


def _decode() -> Any:
    from mgem_agent.recipes.bench.decode import bench_decode

    return bench_decode()


def _generator() -> Any:
    from mgem_agent.recipes.bench.generator import bench_generator

    return bench_generator()


def _serve() -> Any:
    from mgem_agent.extras import EXTRAS, require_packages

    require_packages("'mgem bench serve'", *EXTRAS["serve"])
    from mgem_agent.cli.bench_server import start_server
    from mgem_agent.recipes.bench.serve import bench_serve

    return bench_serve(start_server)


def _scale() -> Any:
    from mgem_agent.cli.bench_scale import PARTS
    from mgem_agent.recipes.bench.scale import bench_scale

    return bench_scale(PARTS)


def _start() -> Any:
    from mgem_agent.recipes.bench.start import bench_start

    return bench_start()


def _data() -> Any:
    from mgem_agent.cli.cores import num_cores
    from mgem_agent.recipes.bench.data import bench_data
    from mgem_agent.recipes.bench.progress import report

    return bench_data(num_processes=num_cores(), say=report)


def _train() -> Any:
    from mgem_agent.recipes.bench.training import bench_training

    return bench_training()


BENCHMARKS: dict[str, Callable[[], Any]] = {
    "story": _story,
    "agent": _agent,
    "page": _page,
    "decode": _decode,
    "generator": _generator,
    "start": _start,
    "data": _data,
    "serve": _serve,
    "scale": _scale,
    "train": _train,
    "mining": _mining,
    "rounds": _rounds,
    "vision": _vision,
}
"""The benchmarks by name, those that need little memory first."""


def run_all(report: Path | None, only: Sequence[str] | None, threads: int | None, *, as_json: bool) -> None:
    """Run benchmarks one after another.

    Args:
        report: The HTML file; None for none.
        only: Names of the benchmarks; all if empty.
        threads: Number of CPU threads; None for torch's.
        as_json: Whether to print one JSON object, by name, instead of tables.

    Raises:
        InputError: If there is no such benchmark.
        MgemError: If none could be run.
        ToolError: If the report cannot be written.
    """
    from mgem_agent.recipes.bench.measure import use_threads
    from mgem_agent.recipes.bench.report import write_report

    names = list(dict.fromkeys(only or BENCHMARKS))
    if unknown := [name for name in names if name not in BENCHMARKS]:
        raise InputError(f"There is no benchmark {unknown[0]!r}. Allowed: {', '.join(BENCHMARKS)}.")
    results: dict[str, BenchResult] = {}
    skipped: dict[str, str] = {}
    for name in names:
        try:
            with bench_bar(name), use_threads(threads):
                results[name] = BENCHMARKS[name]()
        except MgemError as error:  # such as a missing package; the others can run
            skipped[name] = str(error)
            echo(f"{name}: not measured. {error}", err=True)
        else:
            if not as_json:
                open_console().print(results[name].render())
        if report is not None:
            write_report(report, results, skipped)
    if as_json:
        echo_json({name: result.model_dump(mode="json") for name, result in results.items()})
    if report is not None:
        echo(f"The report was written to {report.absolute()}", err=True)
    if not results:
        raise MgemError(f"No benchmark could be run. The first: {next(iter(skipped.values()))}")
