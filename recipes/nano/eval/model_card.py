"""The cards of the two embedded models: what they are, and the measured figures of a report, in Markdown.

The words stand in `cards/`, the figures are put in here, so that a card cannot say what was not measured.
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
"""What is in the box: the vision-language model and the image generator, as their folders are called."""


def model_card(
    report: EvalReport, model: EmbeddedModel = "vlm", *, runs: Sequence[TrainingRun] = (), hardware: str | None = None
) -> str:
    """Return the card of an embedded model.

    Args:
        report: What was measured.
        model: Which of the two.
        runs: The trainings that it comes from, in their order.
        hardware: What it was trained on; by default what it was measured on.

    Raises:
        InputError: If there is no such model, or the report lacks what its card says.
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
