"""The log: what is redone is written once, and a line that was cut off is no harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.train.run_log import RunLog, read_log


def test_lines_after_the_step_that_is_gone_back_to_are_taken_out(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    for step in range(1, 5):
        log.write(step=step, loss=step / 3)
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 5, "lo')
    assert [record["step"] for record in read_log(tmp_path)] == [1, 2, 3, 4]
    RunLog(tmp_path, 2).write(step=3, loss=1.0)
    assert read_log(tmp_path) == [{"step": 1, "loss": 1 / 3}, {"step": 2, "loss": 2 / 3}, {"step": 3, "loss": 1.0}]


def test_a_folder_without_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"is not the folder of a run: it has no log.jsonl\. Give the folder of a training\."
    ):
        read_log(tmp_path)
