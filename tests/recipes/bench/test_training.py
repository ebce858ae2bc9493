"""Training speed: the ways train the same, and the figures follow from the times."""

from __future__ import annotations

from io import StringIO

import pytest
import torch
from rich.console import Console

from mgem_agent.errors import InputError
from mgem_agent.recipes.bench.measure import describe_machine
from mgem_agent.recipes.bench.training import bench_training
from mgem_agent.recipes.bench.training_report import PipelineSpeed, TrainingComparison, TrainingRun


def test_all_ways_have_the_same_first_loss() -> None:
    measured = bench_training(llm="none", batch=3, steps=1, records=4, precision="fp32")
    packed, padded, trainer = measured.runs
    assert (packed.label, padded.label, trainer.label) == ("packed", "padded", "transformers' Trainer")
    assert packed.first_loss == pytest.approx(trainer.first_loss, rel=1e-4)
    assert padded.first_loss == pytest.approx(trainer.first_loss, rel=1e-4)
    assert packed.tokens == padded.tokens == trainer.tokens
    assert packed.padding == 0 < padded.padding
    assert all(len(run.seconds) == 1 and run.seconds[0] > 0 for run in measured.runs)
    assert measured.pipeline.num_records == 4 and measured.peak_flops > 0
    assert TrainingComparison.model_validate(measured.model_dump(include=set(TrainingComparison.model_fields)))


def run(label: str, seconds: float, rows: int) -> TrainingRun:
    return TrainingRun(label=label, seconds=(seconds,) * 2, tokens=(100, 200), rows=(rows,) * 2, first_loss=4.0)


def test_figures_follow_from_the_times() -> None:
    measured = TrainingComparison(
        setting="a", runs=(run("packed", 0.5, 150), run("trainer", 1.0, 300)), flops_per_token=1e6, peak_flops=1e9,
        bf16_peak_flops=2e9, batch=4, pipeline=PipelineSpeed(num_records=10, seconds=2.0),
        machine=describe_machine(torch.device("cpu")),
    )  # fmt: skip
    packed, trainer = measured.runs
    assert (packed.tokens_per_second, trainer.tokens_per_second) == (300, 150)
    assert (packed.padding, trainer.padding) == (0, 0.5)
    assert measured.ratios == {"packed": 2.0, "trainer": 1.0}
    assert measured.share(packed, measured.peak_flops) == pytest.approx(0.3)
    assert measured.cores_of_8_ranks == 13  # eight records a second each, and five a second and core
    printed = StringIO()
    Console(file=printed, width=140).print(measured.render())
    assert "50 %" in printed.getvalue() and "30.0 %" in printed.getvalue() and "15.0 %" in printed.getvalue()


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(InputError, match="steps must be at least 1, got 0"):
        bench_training(steps=0)
