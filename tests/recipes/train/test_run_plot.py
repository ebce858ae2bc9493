"""The picture of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from mgem_agent.errors import InputError, MissingDependencyError
from mgem_agent.recipes.train.run_log import RunLog
from mgem_agent.recipes.train.run_plot import plot_run


def write_log(folder: Path) -> None:
    log = RunLog(folder, 0)
    for step in range(1, 30):
        log.write(step=step, loss=3 / step, learning_rate=step * 1e-4)
    log.write(step=29, evaluation_loss=0.5)


def test_it_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_log(tmp_path)
    plot_run(tmp_path, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (1080, 600)
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50
    with pytest.raises(InputError, match=r"gone/a.png' cannot be written: .*Give a \.png in an existing folder\."):
        plot_run(tmp_path, tmp_path / "gone" / "a.png")


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunLog(tmp_path, 0).write(step=1, evaluation_loss=1.0)
    with pytest.raises(InputError, match=r"has no step yet\. Wait for the first one, or log every step\."):
        plot_run(tmp_path, tmp_path / "a.png")
    write_log(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'mgem-agent\[train\]'"):
        plot_run(tmp_path, tmp_path / "a.png")
