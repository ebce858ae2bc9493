"""Checkpoints are whole or not there, and only the newest stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mgem_agent.errors import CheckpointError
from mgem_agent.recipes.train.checkpoints import newest_checkpoint, put_in_place
from mgem_agent.recipes.train.config import TrainConfig
from mgem_agent.recipes.train.program import train

MakeRun = Callable[..., TrainConfig]


def test_the_newest_stay_and_hold_only_what_is_trained(make_run: MakeRun, tmp_path: Path) -> None:
    train(make_run(run__keep_checkpoints=2))
    places = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert [place.name for place in places] == ["step-00000004", "step-00000006"]
    assert newest_checkpoint(tmp_path / "run") == places[-1]
    names = {place.name for place in places[-1].iterdir()}
    assert names == {"optimizer.bin", "progress.json", "random_states_0.pkl", "trained.safetensors"}


def test_one_that_was_being_written_counts_for_nothing(make_run: MakeRun, tmp_path: Path) -> None:
    half = tmp_path / "run" / "checkpoints" / "step-00000009.part"
    half.mkdir(parents=True)
    assert newest_checkpoint(tmp_path / "run") is None
    assert train(make_run(run__max_steps=1)).step == 1


def test_a_damaged_one_is_named(make_run: MakeRun, tmp_path: Path) -> None:
    config = make_run()
    train(config)
    (tmp_path / "run" / "checkpoints" / "step-00000006" / "progress.json").write_text("{", encoding="utf-8")
    with pytest.raises(
        CheckpointError, match=r"step-00000006' cannot be loaded: .*delete it to resume from the one before"
    ):
        train(config)


def test_a_folder_is_replaced_by_another(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(name, encoding="utf-8")
    put_in_place(tmp_path / "new", tmp_path / "old")
    assert [place.name for place in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old" / "new").read_text(encoding="utf-8") == "new"
