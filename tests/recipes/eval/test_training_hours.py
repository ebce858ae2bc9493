from __future__ import annotations

import json
from pathlib import Path

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.training_hours import read_training_run


def test_breaks_do_not_count(tmp_path: Path) -> None:
    times = [1000, 1100, 1200, 91200, 91300]
    lines = [{"step": 10 * number, "time": time} for number, time in enumerate(times, start=1)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_training_run(tmp_path)
    assert (run.name, run.steps, run.hours) == (tmp_path.name, 50, pytest.approx(400 / 3600))


def test_a_log_needs_times(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    with pytest.raises(InputError, match=r"has 0 line\(s\) with a time, and two are needed"):
        read_training_run(tmp_path)
