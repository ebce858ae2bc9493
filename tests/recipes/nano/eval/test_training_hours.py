from __future__ import annotations

import json
from pathlib import Path

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.eval.training_hours import TrainingRun, earlier_runs, read_training_run


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


def test_the_trainings_of_an_earlier_model_are_read_from_its_card(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text(
        "# nano\n\n| training | steps | hours |\n| --- | ---: | ---: |\n| words3 | 8,000 | 0.9 |\n\n| a | 8 |\n"
    )
    assert earlier_runs(card) == [TrainingRun(name="words3", steps=8000, hours=0.9)]
    card.write_text("# nano\n")
    with pytest.raises(InputError, match=r"lists no trainings\. Give a card that mgem eval card has written"):
        earlier_runs(card)
    with pytest.raises(InputError, match=r"cannot be read: .*Give the README\.md"):
        earlier_runs(tmp_path / "none.md")
