"""A captioner's training as a whole, on a tiny model: every step, resuming, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.recipes.train.captioner import program
from mgem_agent.recipes.train.captioner.config import CaptionerConfig
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner

CAPTIONS = ["two cats", "a cat"]


def run(config: CaptionerConfig, **options: Any) -> Any:
    tools = program.CaptionerTools(open_judge=lambda name, python: Judge())
    return program.train_captioner(config, tools=tools, **options)


class Judge:
    """Sees what was drawn by the colour of the picture; only two cats keep the count."""

    kind: Literal["soft", "hard", "vqascore"] = "soft"

    def score(self, picture: Path, prompt: EvalPrompt) -> list[float]:
        return [float(b"two cats" in picture.read_bytes()), 1.0]  # the record of the picture has its caption


@pytest.fixture
def config(tmp_path: Path, model_folder: Path, requests: list[EvalPrompt]) -> CaptionerConfig:
    for name, request in zip(("train", "held_out"), requests, strict=True):
        (tmp_path / f"{name}.jsonl").write_text(request.model_dump_json() + "\n", encoding="utf-8")
    return CaptionerConfig.model_validate(
        {
            "model": str(model_folder), "generator": "flat", "reward": "reward", "judge": "figure",
            "requests": {"train": str(tmp_path / "train.jsonl"), "held_out": str(tmp_path / "held_out.jsonl"),
                         "num_train": 1, "num_held_out": 1},
            "sampling": {"captions": 2}, "understanding": 0, "output": str(tmp_path / "run"),
        }
    )  # fmt: skip


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Scripted models in place of real ones; returns which were opened."""
    names: list[str] = []

    def open_captioner(name: str) -> ScriptedReasoner:
        names.append(Path(name).name)
        after = Path(name).name == "model" and Path(name).parent.name == "run"
        script = ["<h> two cats </h>"] if after else [f"<h> {caption} </h>" for caption in reversed(CAPTIONS)]
        return ScriptedReasoner(script=script)

    def train_preferences(config: Any, pairs: Any, out: Path, say: Any) -> None:
        names.append("trained")
        (out / "done").mkdir(parents=True)

    monkeypatch.setattr(program, "open_captioner", open_captioner)
    monkeypatch.setattr(program, "make_generator", lambda name: FlatColourGenerator())
    monkeypatch.setattr(program, "train_preferences", train_preferences)
    return names


def test_every_step_is_done_once(config: CaptionerConfig, opened: list[str]) -> None:
    report = run(config)
    assert (report.method, report.num_pairs, report.num_requests) == ("DPO", 1, 1)
    assert (report.kept.before.mean, report.kept.after.mean, report.kept.gain.mean) == (50, 100, 50)
    assert report.skills == {"count": (0, 100), "object": (100, 100)} and report.understanding is None
    (pair,) = [json.loads(line) for line in (config.folder / "pairs.jsonl").read_text().splitlines()]
    assert (pair["chosen"], pair["rejected"], pair["difference"]) == ("two cats", "a cat", 0.5)
    before = opened.copy()
    assert run(config) == report
    assert opened == before  # nothing is loaded again
    stored = json.loads((config.folder / "report.json").read_text(encoding="utf-8"))
    assert stored["kept"]["gain"]["mean"] == 50


def test_a_folder_of_another_training_is_refused(config: CaptionerConfig, opened: list[str]) -> None:
    run(config)
    with pytest.raises(InputError, match=r"margin: 0.05 before, 0.2 now\nGive another output"):
        run(config.model_copy(update={"margin": 0.2}))
    with pytest.raises(InputError, match="method: 'DPO' before, 'GRPO' now"):
        run(config, method="GRPO")


def test_the_reward_is_not_the_judge_of_the_figure(config: CaptionerConfig, opened: list[str]) -> None:
    same = config.model_copy(update={"judge": "reward"})
    with pytest.raises(InputError, match="is also the reward of the training.*judge=NAME"):
        run(same)
    assert run(same.model_copy(update={"same_judge": True})).judge == "reward"


def test_understanding_is_measured_on_the_same_questions(config: CaptionerConfig, opened: list[str]) -> None:
    def understand(name: str, file: Path, num: int, report: Any) -> list[float]:
        report(num, num)
        return (
            [1.0, 0.0, 0.0, 1.0] if Path(name).name == "model" and file.parent.name == "after" else [1.0, 0.0, 1.0, 1.0]
        )

    tools = program.CaptionerTools(open_judge=lambda name, python: Judge(), understand=understand)
    asked = config.model_copy(update={"understanding": 2})
    report = program.train_captioner(asked, tools=tools)
    assert report.understanding is not None
    assert (report.understanding.before.mean, report.understanding.gain.mean) == (75, -25)
