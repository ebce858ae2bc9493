"""What a benchmark says: its ratios, its JSON, its table."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console

from mgem_agent.recipes.bench.comparison import Comparison, Machine, Run, format_seconds, format_times

MACHINE = Machine(
    processor="Some CPU", device="cpu", num_threads=2, torch="2.9", transformers="5.16", python="3.11", system="Linux"
)


def make_comparison(**changes: Any) -> Comparison:
    fields: dict[str, Any] = {
        "name": "mining",
        "setting": "small [sizes]",
        "note": "All is random.",
        "ours_run": Run(label="quick", seconds=(0.1, 0.3, 0.2), extra_memory_bytes=2**20, flops=10**9),
        "alternative_run": Run(label="slow", seconds=(2.0, 1.0, 3.0), extra_memory_bytes=2**25, flops=50 * 10**9),
        "max_abs_difference": {"output": 1.5e-6},
        "max_abs_value": {"output": 4.0},
        "machine": MACHINE,
    }
    return Comparison(**(fields | changes))


def test_figures_are_medians_and_ratios_are_alternative_to_ours() -> None:
    comparison = make_comparison()
    assert (comparison.ours, comparison.alternative) == (0.2, 2.0)
    assert comparison.ratio == pytest.approx(10)
    assert comparison.fastest_ratio == pytest.approx(10)
    assert comparison.memory_ratio == 32
    assert comparison.flops_ratio == 50


def test_what_was_not_measured_has_no_ratio() -> None:
    comparison = make_comparison(
        ours_run=Run(label="quick", seconds=(0.1,)), alternative_run=Run(label="slow", seconds=(1.0,))
    )
    assert comparison.memory_ratio is None
    assert comparison.flops_ratio is None
    assert "memory" not in show(comparison)


def test_json_has_the_figures_and_reads_back() -> None:
    comparison = make_comparison()
    text = comparison.model_dump_json()
    assert {"name", "ours", "alternative", "ratio", "unit", "machine"} <= json.loads(text).keys()
    assert json.loads(text)["unit"] == "s"
    assert Comparison.model_validate_json(text) == comparison


def test_a_record_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_comparison().name = "another"


def test_the_table_says_it_all() -> None:
    shown = show(make_comparison())
    for words in (
        "mining: small [sizes]",
        "quick",
        "slow",
        "200.0 ms",
        "2.00 s",
        "10.0×",
        "1.0 MiB",
        "32.0 MiB",
        "50.00 GFLOP",
        "Largest difference of the output: 1.5e-06 (values up to 4.0e+00).",
        "Timed runs of each: 3, in turns. All is random.",
        "Some CPU; cpu, threads: 2; torch 2.9, transformers 5.16, Python 3.11, Linux.",
    ):
        assert words in shown


def test_seconds_and_ratios_are_written_for_people() -> None:
    assert [format_seconds(seconds) for seconds in (None, 0.0123, 12.3456)] == ["–", "12.3 ms", "12.35 s"]
    assert [format_times(ratio) for ratio in (None, 12.34)] == ["", "12.3×"]


def show(comparison: Comparison) -> str:
    shown = io.StringIO()
    Console(file=shown, width=120).print(comparison.render())
    return shown.getvalue()
