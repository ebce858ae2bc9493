"""The model cards of nano's two models, in Markdown, with the figures of a report.

The templates are in `cards/`. All figures come from a report, so a card only has measured ones.
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Sequence
from typing import Literal, get_args

import jinja2

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.eval.report import EvalReport
from mgem_agent.recipes.nano.eval.training_hours import TrainingRun

__all__ = ["EmbeddedModel", "model_card"]

EmbeddedModel = Literal["vlm", "diffusion"]
"""The vision-language model and the image generator, by the names of their folders."""


def model_card(
    report: EvalReport, model: EmbeddedModel = "vlm", *, runs: Sequence[TrainingRun] = (), hardware: str | None = None
) -> str:
    """Return the card of an embedded model.

    Args:
        report: The report.
        model: Which of the two models.
        runs: Its trainings, in order.
        hardware: Hardware of the training; default: that of the report.

    Raises:
        InputError: If there is no such model, or the report lacks a part that the card needs.
    """
    if model not in get_args(EmbeddedModel):
        raise InputError(f"There is no card of {model!r}. Allowed: {', '.join(map(repr, get_args(EmbeddedModel)))}.")
    needed = {"vlm": ("understanding", "drawing"), "diffusion": ("pictures",)}[model]
    if missing := [part for part in needed if not getattr(report, part)]:
        flags = " ".join(f"--{part}" for part in missing)
        raise InputError(f"The report lacks {' and '.join(missing)}. Measure it first: mgem eval nano {flags}")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown, not HTML
        trim_blocks=True,
    )
    card = environment.get_template(f"{model}.md").render(
        report=report, runs=runs, hardware=hardware or f"{report.machine.processor}, {report.machine.device}"
    )
    return re.sub(r"\n{3,}", "\n\n", card).rstrip() + "\n"


def _template(name: str) -> str:
    file = importlib.resources.files("mgem_agent.recipes.nano.eval") / "cards" / f"{name}.jinja"
    return file.read_text(encoding="utf-8")
