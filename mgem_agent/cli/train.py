"""`mgem train`: train the core model, look at how a run goes, and make models of runs.

`mgem train CONFIG` trains; what is no word of a sub-command is taken for a configuration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from mgem_agent.cli.printing import echo

__all__ = ["TrainByDefault", "app"]

_SIGNAL_STATUS = 128

_DType = Literal["float32", "bfloat16", "float16"]
_Run = Annotated[Path, typer.Argument(help="Folder of a run: what run.output names.")]


class TrainByDefault(TyperGroup):
    """Sub-commands, of which `run` need not be named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` in front of a configuration."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=TrainByDefault,
    help="Train the core model in the paper's two stages: [bold]mgem train CONFIG \\[key=value ...][/].\n\n"
    "In several processes: accelerate launch -m mgem_agent.recipes.train CONFIG \\[key=value ...]",
    no_args_is_help=True,
)


@app.command("run")
def _run(
    config: Annotated[str, typer.Argument(help="A YAML file, or a configuration of 'mgem train configs'.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings that differ from it.")
    ] = None,
) -> None:
    """Train, or go on with a run that was interrupted. The word "run" may be left out.

    Example: mgem train nano_align run.output=runs/align run.max_steps=100

    Ctrl-C ends it after the step that is being made, with a checkpoint; the same command goes on from there.
    """
    from mgem_agent.recipes.train.config_file import load_config

    settings = load_config(config, overrides or ())
    from transformers.utils import logging

    from mgem_agent.recipes.train.program import train

    logging.disable_progress_bar()
    outcome = train(settings, report=lambda message: echo(message, err=True))
    if outcome.stopped_by is not None:
        echo(f"Stopped after step {outcome.step} of {outcome.num_steps}. The same command goes on.", err=True)
        raise typer.Exit(_SIGNAL_STATUS + outcome.stopped_by)
    echo(settings.run.output)


@app.command("configs")
def _configs(
    name: Annotated[str | None, typer.Argument(help="Print this one.")] = None,
) -> None:
    """List the configurations that ship, or print one to start from."""
    import yaml

    from mgem_agent.recipes.train.config_file import load_config, shipped_configs

    if name is None:
        echo("\n".join(shipped_configs()))
        return
    echo(yaml.safe_dump(load_config(name).model_dump(mode="json"), sort_keys=False), nl=False)


@app.command("plot")
def _plot(
    run: _Run,
    out: Annotated[Path | None, typer.Option(help="The picture to make; RUN/log.png if not given.")] = None,
) -> None:
    """Draw the losses and the learning rate of a run."""
    from mgem_agent.recipes.train.run_plot import plot_run

    picture = out or run / "log.png"
    plot_run(run, picture)
    echo(picture)


@app.command("export")
def _export(
    run: _Run,
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    small: Annotated[
        bool, typer.Option("--small", help="Leave the language model's own weights out; for adapters and align.")
    ] = False,
    dtype: Annotated[
        _DType | None, typer.Option(help="Data type of the weights; bfloat16, or float16 with --small.")
    ] = None,
) -> None:
    """Write the model of a run, adapters merged, in a folder that every part of transformers can load.

    Of a run that is not finished, its newest checkpoint is taken.
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
