"""GRPO of the captioner: the reward draws and asks, and TRL's trainer makes steps with it on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from mgem_agent.core_model import MiniGeminiForConditionalGeneration
from mgem_agent.errors import GeneratorUnavailableError
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.recipes.train.captioner.config import CaptionerConfig
from mgem_agent.recipes.train.captioner.groups import PictureReward, train_groups
from mgem_agent.testing import FlatColourGenerator


class Judge:
    """Gives each picture the next score."""

    kind: Literal["soft", "hard", "vqascore"] = "soft"

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)
        self.asked: list[str] = []

    def score(self, picture: Path, prompt: EvalPrompt) -> list[float]:
        assert picture.is_file()
        self.asked.append(prompt.prompt)
        return [self.scores.pop(0), 1.0]


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def test_an_answer_is_scored_by_its_pictures(tmp_path: Path, requests: list[EvalPrompt]) -> None:
    judge = Judge(0.0, 1.0, 0.5, 0.5)
    reward = PictureReward(requests, FlatColourGenerator(), judge, tmp_path, num_pictures=2)
    answers = [answer("Here: <h> two cats </h>"), answer("No."), answer("<h> cats </h> and <h> a dog </h>")]
    assert reward(completions=answers, request=["two cats", "two cats", "three cats"], prompts=[]) == [0.75, 0.0, 0.75]
    assert judge.asked == ["two cats", "two cats", "three cats", "three cats"]
    lines = [json.loads(line) for line in (tmp_path / "rewards.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["caption"], len(line["pictures"]), line["score"]) for line in lines] == [
        ("two cats", 2, 0.75), ("", 0, 0.0), ("cats", 2, 0.75),
    ]  # fmt: skip


def test_equal_captions_are_drawn_once_and_a_failed_picture_scores_zero(
    tmp_path: Path, requests: list[EvalPrompt]
) -> None:
    drawn: list[str] = []

    class Noting(FlatColourGenerator):
        def generate(self, requests: Any, **options: Any) -> Any:
            drawn.extend(request.prompt for request in requests)
            return super().generate(requests, **options)

    reward = PictureReward(requests, Noting(fail_on="broken"), Judge(1.0, 1.0), tmp_path)
    answers = [answer("<h> cats </h>"), answer("<h> cats </h>"), answer("<h> broken </h>")]
    assert reward(completions=answers, request=["two cats"] * 3) == [1.0, 1.0, 0.0]
    assert drawn == ["cats", "broken"]


def test_a_generator_that_is_gone_ends_the_training(tmp_path: Path, requests: list[EvalPrompt]) -> None:
    class Gone(FlatColourGenerator):
        def generate(self, requests: Any, **options: Any) -> Any:
            raise GeneratorUnavailableError("It is gone.")

    with pytest.raises(GeneratorUnavailableError):
        PictureReward(requests, Gone(), Judge(), tmp_path)(completions=[answer("<h> a </h>")], request=["two cats"])


class LateLetters:
    """A reward that needs no picture: letters late in the alphabet are better."""

    __name__ = "late_letters"

    def __call__(self, completions: Any, request: list[str], **kwargs: Any) -> list[float]:
        assert set(request) <= {"two cats", "three cats"}
        return [float(sum(map(ord, one[0]["content"]))) for one in completions]


@pytest.mark.slow
@pytest.mark.usefixtures("warnings_of_others")
def test_steps_of_groups_change_the_language_model(
    model_folder: Path, tmp_path: Path, requests: list[EvalPrompt]
) -> None:
    pytest.importorskip("trl", reason="trl is not installed: pip install 'mgem-agent[rl]'")
    config = CaptionerConfig.model_validate(
        {
            "model": str(model_folder), "generator": "flat", "reward": "a", "judge": "b", "output": "unused",
            "lora": {"rank": 2}, "precision": "fp32", "sampling": {"captions": 2, "max_tokens": 8, "temperature": 1.0},
            "optimizer": {"learning_rate": 0.05, "epochs": 2, "batch": 2, "micro_batch": 2},
        }
    )  # fmt: skip
    said: list[str] = []
    reward: Any = LateLetters()
    train_groups(config, requests, reward, tmp_path / "model", said.append)
    assert len(said) == 2 and said[0].startswith("step 1 of 2: reward ")
    first, second = (
        dict(MiniGeminiForConditionalGeneration.from_pretrained(folder).named_parameters())
        for folder in (model_folder, tmp_path / "model")
    )
    assert {name.split(".")[1] for name in first if not torch.equal(first[name], second[name])} == {"language_model"}
