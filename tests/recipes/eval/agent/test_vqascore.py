"""VQAScore in a process of its own. A small module takes the place of t2v_metrics, which needs other releases."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mgem_agent.errors import InputError, ToolError
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.recipes.eval.agent.vqascore import VqaScoreJudge

PROMPT = EvalPrompt(prompt="three cats", atom_count=1, vqa_list=(("Are there cats?", "Yes"),), skills=("object",))
PACKAGE = """
import os
from pathlib import Path

print("Loading a model")  # as libraries do, to stdout


def list_all_vqascore_models():
    return ["small", "ends"]


class VQAScore:
    def __init__(self, model, device):
        self.model, self.device = model, device

    def __call__(self, images, texts):
        if self.model == "ends":
            os._exit(3)
        print("Scoring")
        Path(images[0]).stat()
        return [[0.25 if texts == ["three cats"] and self.device == "cpu" else 0]]
"""
TORCH = "class cuda:\n    is_available = staticmethod(lambda: False)\n"


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "t2v_metrics.py").write_text(PACKAGE)
    (tmp_path / "torch.py").write_text(TORCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield Path(sys.executable)


def test_pictures_are_scored_by_another_process(python: Path, tmp_path: Path) -> None:
    judge = VqaScoreJudge("small", python)
    (tmp_path / "cats.png").touch()
    assert (judge.score(tmp_path / "cats.png", PROMPT), judge.kind) == ([0.25], "vqascore")
    with pytest.raises(InputError, match=r"none\.png could not be scored: FileNotFoundError"):
        judge.score(tmp_path / "none.png", PROMPT)
    assert judge.score(tmp_path / "cats.png", PROMPT) == [0.25]
    judge.close()


def test_what_is_missing_is_said(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"pip install t2v-metrics.*--judge-python"):
        VqaScoreJudge("small", None)
    with pytest.raises(InputError, match="no Python interpreter at"):
        VqaScoreJudge("small", tmp_path / "python")
    with pytest.raises(InputError, match="has no model 'large'. It has: small, ends"):
        VqaScoreJudge("large", python)
    (tmp_path / "t2v_metrics.py").write_text("raise RuntimeError('ffmpeg is required')")
    with pytest.raises(InputError, match="could not be loaded: RuntimeError: ffmpeg is required"):
        VqaScoreJudge("small", python)


def test_a_process_that_ends_is_an_error(python: Path, tmp_path: Path) -> None:
    judge = VqaScoreJudge("ends", python)
    with pytest.raises(ToolError, match="ended with 3"):
        judge.score(tmp_path / "cats.png", PROMPT)
    judge.close()
