"""`mgem train`: train the core model, plot a run, and export its model.

`mgem train CONFIG` is short for `mgem train run CONFIG`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from mgem_agent.cli.printing import echo
from mgem_agent.cli.train_captioner import train_by_dpo, train_by_grpo
from mgem_agent.cli.train_estimate import show_estimate

__all__ = ["app"]

_SIGNAL_STATUS = 128

_DType = Literal["float32", "bfloat16", "float16"]
_Run = Annotated[Path, typer.Argument(help="Folder of a run, as set by run.output.")]


class TrainByDefault(TyperGroup):
    """Commands with `run` as the default."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert `run` before a configuration."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=TrainByDefault,
    help="Train the core model in the paper's two stages: [bold]mgem train CONFIG \\[key=value ...][/].\n\n"
    "On several GPUs: accelerate launch -m mgem_agent.recipes.train CONFIG \\[key=value ...]",
    no_args_is_help=True,
)


@app.command("run")
def _run(
    config: Annotated[str, typer.Argument(help="A YAML file, or a name from 'mgem train configs'.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Values that override the configuration.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what the run needs: parameters, memory, steps, tokens, hours.")
    ] = False,
    processes: Annotated[int, typer.Option(min=1, help="With --dry-run: number of processes.")] = 1,
    measured: Annotated[
        Path | None, typer.Option(help="With --dry-run: folder of a short run, whose steps give the hours.")
    ] = None,
) -> None:
    """Train, or continue an interrupted run. The word "run" may be left out.

    Example: mgem train nano_align run.output=runs/align run.max_steps=100

    Ctrl-C finishes the current step and saves a checkpoint. Run the same command again to continue.
    """
    from mgem_agent.recipes.train.config_file import load_config

    settings = load_config(config, overrides or ())
    if dry_run:
        show_estimate(settings, processes, measured)
        return
    from transformers.utils import logging

    from mgem_agent.recipes.train.program import train

    logging.disable_progress_bar()
    outcome = train(settings, report=lambda message: echo(message, err=True))
    if outcome.stopped_by is not None:
        echo(
            f"Stopped after step {outcome.step} of {outcome.num_steps}. Run the same command again to continue.",
            err=True,
        )
        raise typer.Exit(_SIGNAL_STATUS + outcome.stopped_by)
    echo(settings.run.output)


app.command("captioner_dpo")(train_by_dpo)
app.command("captioner_grpo")(train_by_grpo)


@app.command("configs")
def _configs(
    name: Annotated[str | None, typer.Argument(help="Print this configuration.")] = None,
) -> None:
    """List the built-in configurations, or print one as a starting point."""
    import yaml

    from mgem_agent.recipes.train.config_file import load_config, shipped_configs

    if name is None:
        echo("\n".join(shipped_configs()))
        return
    echo(yaml.safe_dump(load_config(name).model_dump(mode="json"), sort_keys=False), nl=False)


@app.command("accelerate")
def _accelerate(
    name: Annotated[str | None, typer.Argument(help="Print this file.")] = None,
) -> None:
    """List the files for `accelerate launch --config_file`, or print one.

    Example: mgem train accelerate zero3 > zero3.yaml
    """
    from mgem_agent.recipes.train.config_file import launch_file, launch_files

    echo("\n".join(launch_files()) if name is None else launch_file(name), nl=name is None)


@app.command("plot")
def _plot(
    run: _Run,
    out: Annotated[Path | None, typer.Option(help="Output file. Default: RUN/log.png.")] = None,
) -> None:
    """Plot the losses and the learning rate of a run."""
    from mgem_agent.recipes.train.run_plot import plot_run

    picture = out or run / "log.png"
    plot_run(run, picture)
    echo(picture)


@app.command("export")
def _export(
    run: _Run,
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    small: Annotated[
        bool,
        typer.Option("--small", help="Leave out the base language model's weights; for adapters and the align stage."),
    ] = False,
    dtype: Annotated[
        _DType | None, typer.Option(help="Data type of the weights. Default: bfloat16, or float16 with --small.")
    ] = None,
) -> None:
    """Export a run's model, with merged adapters, to a folder that transformers can load.

    For an unfinished run, the latest checkpoint is exported.
    """
    import torch
    from transformers.utils import logging

    from mgem_agent.recipes.train.result import export_model, export_without_llm

    logging.disable_progress_bar()
    if small:
        export_without_llm(run, out, getattr(torch, dtype or "float16"))
    else:
        export_model(run, out, getattr(torch, dtype or "bfloat16"))
    echo(out)
