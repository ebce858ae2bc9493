"""`mgem eval paper`: the paper's benchmarks through lmms-eval, with the published values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mgem_agent.cli.printing import echo, echo_json, open_console

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mgem_agent.recipes.eval.paper.benchmarks import PaperBenchmark
    from mgem_agent.recipes.eval.paper.run import PaperRun

__all__ = ["eval_paper"]


def eval_paper(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", metavar="NAME", help="A Mini-Gemini folder or hub id; repeatable."),
    ] = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option("--benchmark", metavar="NAME", help="A benchmark of the paper; repeatable. Default: all."),
    ] = None,
    ablations: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML file with a model for each row of Tables 2 and 3: 'data-ocr: runs/x'."),
    ] = None,
    list_ablations: Annotated[
        bool, typer.Option("--list-ablations", help="Print the rows of Tables 2 and 3 and what to train for each.")
    ] = False,
    num: Annotated[
        int | None, typer.Option("--num", "-n", min=1, help="Questions of each benchmark. Default: all.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Batch size in questions.")] = 8,
    device: Annotated[str | None, typer.Option(help="Device: cpu, cuda, cuda:1. Default: all GPUs.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Data type of the weights. Default: bfloat16 on a GPU.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes, each with a GPU of its own.")] = 1,
    environment: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Virtual environment of lmms-eval. Default: in the cache.")
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Create that environment first; it takes 7 GB.")] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of tasks, answers and results.")] = Path(
        "eval-paper"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the values as JSON instead of tables.")] = False,
) -> None:
    """Run the paper's benchmarks through lmms-eval, and print its tables with the published values.

    lmms-eval has an environment of its own. It downloads the data sets at first use. A benchmark with results is not
    run again, and an interrupted one takes up its answers: run the command again to continue.

    Exit status: 1 if a benchmark failed; one that is skipped without a judge has not failed.
    """
    from mgem_agent.errors import InputError
    from mgem_agent.recipes.eval.paper.environment import create_environment
    from mgem_agent.recipes.eval.paper.tables import training_table

    if list_ablations:
        open_console().print(training_table())
        return
    place = environment or _default_environment()
    if create:
        create_environment(place)
    run, is_complete = _settings(out, num, batch, device, dtype, processes), True
    if model:
        is_complete = _tables(model, tuple(benchmark or ()), run, place, as_json)
    if ablations is not None:
        is_complete = _ablations(ablations, run, place, as_json) and is_complete
    if not model and ablations is None and not create:
        raise InputError(
            "Name a model: mgem eval paper --model YanweiLi/MGM-7B. Or a file of models: --ablations FILE."
        )
    if not is_complete:
        raise typer.Exit(1)


def _settings(
    out: Path, num: int | None, batch: int, device: str | None, dtype: str | None, processes: int
) -> PaperRun:
    from mgem_agent.recipes.eval.paper.run import PaperRun

    return PaperRun("", out, batch, num, device, dtype, processes)


def _tables(models: list[str], names: tuple[str, ...], run: PaperRun, place: Path, as_json: bool) -> bool:
    """Run, print the tables, and return whether no benchmark failed."""
    from mgem_agent.recipes.eval.paper.benchmarks import find_benchmarks, published_values
    from mgem_agent.recipes.eval.paper.tables import paper_tables

    benchmarks = find_benchmarks(names)
    measured = {model: _measured(model, names, run, place) for model in models}
    if as_json:
        published = {model: published_values(model) for model in models}
        echo_json({"measured": measured, "published": published})
    else:
        open_console().print(paper_tables(measured, benchmarks))
    return all(_has_values(benchmarks, values) for values in measured.values())


def _has_values(benchmarks: Iterable[PaperBenchmark], values: Mapping[str, str | None]) -> bool:
    """Return whether each benchmark has a value, or was skipped because there is no judge."""
    from mgem_agent.recipes.eval.paper.run import has_judge

    return all(values[each.name] is not None or (each.judge and not has_judge()) for each in benchmarks)


def _ablations(file: Path, run: PaperRun, place: Path, as_json: bool) -> bool:
    """Run, print the tables, and return whether no benchmark failed."""
    from mgem_agent.core_model import MiniGeminiConfig
    from mgem_agent.recipes.eval.paper.benchmarks import ablations, find_benchmarks
    from mgem_agent.recipes.eval.paper.tables import (
        ABLATION_BENCHMARKS,
        ablation_table,
        check_ablation_model,
        read_ablation_models,
    )
    from mgem_agent.user_files import user_path

    models = read_ablation_models(user_path(file))
    for row in ablations():  # all of them before hours of answers
        if row.id in models and models[row.id] != "nano":
            check_ablation_model(row, MiniGeminiConfig.from_pretrained(models[row.id]))
    measured = {row: _measured(model, ABLATION_BENCHMARKS, run, place) for row, model in models.items()}
    if as_json:
        echo_json({"measured": measured})
    else:
        open_console().print(ablation_table(measured))
    return all(_has_values(find_benchmarks(ABLATION_BENCHMARKS), values) for values in measured.values())


def _measured(model: str, names: tuple[str, ...], settings: PaperRun, place: Path) -> dict[str, str | None]:
    """Run the benchmarks of a model, and return its values."""
    import dataclasses

    from mgem_agent.recipes.eval.paper.benchmarks import find_benchmarks
    from mgem_agent.recipes.eval.paper.environment import find_lmms_eval
    from mgem_agent.recipes.eval.paper.run import measured_value, run_benchmarks
    from mgem_agent.user_files import user_path

    folder = user_path(model)
    name = str(folder.resolve()) if folder.is_dir() else model
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in model).strip("_.")
    run = dataclasses.replace(settings, model=name, out=(user_path(settings.out) / safe).resolve())
    benchmarks = find_benchmarks(names)
    if any(measured_value(run, benchmark) is None for benchmark in benchmarks):
        for line in run_benchmarks(run, benchmarks, find_lmms_eval(place), lambda line: echo(line, err=True)):
            echo(line, err=True)
    return {benchmark.name: measured_value(run, benchmark) for benchmark in benchmarks}


def _default_environment() -> Path:
    from mgem_agent.nano.language_model import nano_cache
    from mgem_agent.recipes.eval.paper.environment import LMMS_EVAL

    return nano_cache().with_name(f"lmms-eval-{LMMS_EVAL}")
