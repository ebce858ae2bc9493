"""Benchmarks say what they measure, to whoever listens."""

from __future__ import annotations

import torch

from mgem_agent.recipes.bench.measure import compare, time_alternating
from mgem_agent.recipes.bench.progress import BenchStep, report, reporting, steps


def test_nobody_needs_to_listen() -> None:
    report("nothing")
    assert list(steps("counting", "ab")) == ["a", "b"]


def test_each_item_is_a_step() -> None:
    said: list[BenchStep] = []
    with reporting(said.append):
        for _ in steps("counting", "ab"):
            report("counting", result="one more")
    report("too late")
    counted = [step for step in said if not step.result]
    assert counted == [BenchStep("counting", done, 2) for done in range(3)]
    assert [step.result for step in said if step.result] == ["one more"] * 2


def test_timed_calls_and_their_medians_are_reported() -> None:
    said: list[BenchStep] = []
    with reporting(said.append):
        time_alternating([lambda: 1, lambda: 2], repeats=2, device=torch.device("cpu"), labels=("ours", "theirs"))
    assert [(step.what, step.done) for step in said if step.total] == [
        ("time of ours", 0),
        ("time of theirs", 1),
        ("time of theirs", 2),
        ("time of ours", 3),
    ]
    assert [step.result.partition(":")[0] for step in said[4:]] == ["ours", "theirs"]


def test_a_comparison_says_what_it_does() -> None:
    said: list[BenchStep] = []
    ones = torch.ones(2, 2)
    with reporting(said.append):
        found = compare(
            lambda: {"product": [ones @ ones]},
            lambda: {"product": [ones @ ones + 1]},
            name="n",
            setting="s",
            labels=("a", "b"),
            device=torch.device("cpu"),
            repeats=1,
        )
    assert found.max_abs_difference == {"product": 1.0} and (found.ours_run.flops or 0) > 0
    whats = [step.what for step in said if not step.result]
    assert whats == [f"{what} of {way}" for what in ("arithmetic", "memory", "time") for way in "ab"]
