from __future__ import annotations

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.eval.model_card import model_card
from mgem_agent.recipes.nano.eval.report import EvalReport
from mgem_agent.recipes.nano.eval.training_hours import TrainingRun

RUNS = [TrainingRun(name="nano_align", steps=1200, hours=2.25)]


def test_the_card_of_the_model_that_sees(whole_report: EvalReport) -> None:
    lines = model_card(whole_report, runs=RUNS, hardware="two cores").splitlines()
    assert lines[0] == "# nano, the vision-language model"
    for line in (
        "| nano_align | 1,200 | 2.2 |",
        "Hardware: two cores.",
        "| right answers to | asked | with HR | LR only |",
        "| --- | ---: | ---: | ---: |",
        "| read_small | 20 | 100 % (84–100) | 50 % (30–70) |",
        "| in plain words | 20 | 100 % (84–100) | 50 % (30–70) |",
        "Of 20 turns that ask for no picture, 100 % (84–100) got none.",
        "## What it cannot do",
    ):
        assert line in lines
    assert not any(a == b == "" for a, b in zip(lines, lines[1:], strict=False))


def test_the_card_of_the_model_that_draws(whole_report: EvalReport) -> None:
    card = model_card(whole_report, "diffusion")
    assert "128 × 128 px" in card
    assert "20 pictures, 1 failed; 2.50 s each" in card
    assert "| one thing | 20 | 50 % (30–70) | 50 % (30–70) | 100 % (84–100) | 100 % (84–100) |" in card
    assert f"Hardware: {whole_report.machine.processor}, cpu." in card


def test_nothing_is_said_that_was_not_measured(whole_report: EvalReport) -> None:
    lacking = whole_report.model_copy(update={"understanding": (), "drawing": None})
    message = "The report lacks understanding and drawing. Measure it first: mgem eval nano --understanding --drawing"
    with pytest.raises(InputError, match=message):
        model_card(lacking)
    with pytest.raises(InputError, match=r"There is no card of 'llm'\. Allowed: 'vlm', 'diffusion'"):
        model_card(whole_report, "llm")
