"""Our classes within lmms-eval itself, in the environment that `.ci/lmms-eval` creates."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lmms_eval")

pytestmark = pytest.mark.slow
TASKS = Path(__file__).with_name("tasks")
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def run(task: str, folder: Path, *options: str, args: str = "") -> Any:
    """Results of a task, by nano."""
    told = f"pretrained=nano,answers={folder / 'answers.jsonl'},pictures={folder / 'pictures'}{args}"
    command = [sys.executable, "-m", "lmms_eval", "--model", "mgem", "--model_args", told, "--tasks", task]
    command += ["--include_path", str(TASKS), "--batch_size", "2", "--output_path", str(folder / "out"), *options]
    done = subprocess.run(
        command, capture_output=True, text=True, env=ENVIRONMENT, timeout=600, cwd=folder, check=False
    )
    files = sorted((folder / "out").rglob("*_results.json"))
    assert not done.returncode and files, done.stderr[-3000:]  # lmms-eval ends with 0 after most errors
    return json.loads(files[-1].read_text())["results"][task]


def test_the_plug_in_is_registered() -> None:
    (point,) = importlib.metadata.entry_points(group="lmms_eval.models", name="mgem")
    assert point.load()().model_id == "mgem"


def test_generation_resumes(tmp_path: Path) -> None:
    assert run("toy_generate", tmp_path)["answered,none"] == 1
    log = tmp_path / "answers.jsonl"
    first = log.read_text()
    log.write_text(first.splitlines(keepends=True)[0])
    assert run("toy_generate", tmp_path)["answered,none"] == 1
    assert log.read_text() == first


def test_choices_and_continuations_are_scored(tmp_path: Path) -> None:
    assert run("toy_choice", tmp_path, "--force_simple")["acc,none"] == 1  # nano knows red from blue
    assert run("toy_scored", tmp_path, "--force_simple")["loss,none"] > 0


def test_generation_tasks_get_pictures(tmp_path: Path) -> None:
    assert run("toy_drawn", tmp_path, args=",draw=always")["drawn,none"] == 1
    assert list((tmp_path / "pictures").glob("*.png"))
