"""`mgem train captioner_dpo` and `captioner_grpo`: captions that learn from their pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from mgem_agent.cli.eval_progress import progress_bars
from mgem_agent.cli.judges import open_judge
from mgem_agent.cli.printing import echo, echo_json, open_console

__all__ = ["train_by_dpo", "train_by_grpo"]

_Captioner = Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file, 'nano', or 'mgm_7b'.")]
_Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Values that override the configuration.")
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of a table.")]


def train_by_dpo(config: _Captioner, overrides: _Overrides = None, as_json: _AsJson = False) -> None:
    """Train the captioner on the pictures of its own captions, by DPO. Needs mgem-agent[rl].

    For each request, captions are sampled from the model, drawn by the generator, and scored by a judge. The best and
    the worst caption of a request make a pair, and TRL trains a low-rank adapter on the pairs. Held-out requests are
    drawn before and after. Every step is stored: run the same command again to continue.

    Example: mgem train captioner_dpo nano judge=scene:models/other-nano
    """
    _train("DPO", config, overrides, as_json)


def train_by_grpo(config: _Captioner, overrides: _Overrides = None, as_json: _AsJson = False) -> None:
    """Train the captioner on the pictures of its own captions, by GRPO. Needs mgem-agent[rl].

    As captioner_dpo, but captions are sampled during the training, and every caption counts, by how much its score
    differs from the mean of its request. It draws much more than DPO.

    Example: mgem train captioner_grpo nano judge=scene:models/other-nano output=runs/grpo optimizer.learning_rate=1e-5
    """
    _train("GRPO", config, overrides, as_json)


def _train(method: Literal["DPO", "GRPO"], config: str, overrides: list[str] | None, as_json: bool) -> None:
    """Train, and print the report."""
    from transformers.utils import logging

    from mgem_agent.recipes.nano.eval.world_prompts import make_drawable_prompts
    from mgem_agent.recipes.train.captioner.config import load_captioner_config
    from mgem_agent.recipes.train.captioner.program import CaptionerTools, train_captioner

    settings = load_captioner_config(config, overrides or ())
    logging.disable_progress_bar()
    with progress_bars() as progress:
        report = train_captioner(
            settings,
            method=method,
            tools=CaptionerTools(open_judge, make_drawable_prompts, _right_answers),
            progress=progress,
            say=lambda message: echo(message, err=True),
        )
    if as_json:
        echo_json(report.model_dump(mode="json"))
    else:
        open_console().print(report.render())


def _right_answers(name: str, file: Path, num: int, report: Callable[[int, int], None]) -> list[float]:
    """Ask a model about held-out scenes; 1 for each right answer."""
    from mgem_agent.recipes.nano.eval.evaluation import answer_settings
    from mgem_agent.recipes.nano.eval.seeing_model import SeeingModel
    from mgem_agent.recipes.nano.eval.understanding import answer_questions
    from mgem_agent.recipes.nano.world.emoji import EmojiAssets

    found = answer_questions(
        SeeingModel.open(name), EmojiAssets.open(), file, answer_settings(name), num=num, report=report
    )
    return [float(is_right) for _, is_right in found]
