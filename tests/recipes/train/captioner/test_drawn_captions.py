from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError, MgemError
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.recipes.train.captioner.drawn_captions import CaptionPlan, DrawnCaptions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner

PLAN = CaptionPlan(num_captions=2, num_pictures=1, temperature=0.8, seed=5)
SCRIPT = ["<h> two cats </h>", "<h> a cat </h>", "<h> three cats </h>", "<h> cats </h>"]


class Judge:
    """Scores the pictures in order, and notes them."""

    kind: Literal["soft", "hard", "vqascore"] = "soft"

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)
        self.seen: list[tuple[str, str]] = []

    def score(self, picture: Path, prompt: EvalPrompt) -> list[float]:
        self.seen.append((picture.stem, prompt.prompt))
        return [self.scores.pop(0), 1.0]


def never() -> Any:
    raise AssertionError("nothing is missing, so nothing is loaded")


def all_steps(folder: Path, requests: list[EvalPrompt], judge: Judge, **models: Any) -> Any:
    captions = DrawnCaptions(folder, requests, PLAN)
    reasoner = models.get("reasoner", ScriptedReasoner(script=SCRIPT))
    captions.sample(lambda: reasoner, {"model": "a"})
    generator = models.get("generator", FlatColourGenerator())
    captions.draw(lambda: generator, {"generator": "flat"})
    captions.score(lambda: judge, {"judge": "j"})
    return captions.records()


def test_captions_are_sampled_drawn_and_scored(tmp_path: Path, requests: list[EvalPrompt]) -> None:
    reasoner, judge = ScriptedReasoner(script=SCRIPT), Judge(1.0, 0.0, 0.5, 0.25)
    found = all_steps(tmp_path, requests, judge, reasoner=reasoner)
    assert [[each.caption for each in row] for row in found] == [["two cats", "a cat"], ["three cats", "cats"]]
    assert [[each.score for each in row] for row in found] == [[1.0, 0.5], [0.75, 0.625]]
    asked = [(request.temperature, request.seed) for request in reasoner.requests]
    assert asked == [(0, 5), (0.8, 6)] * 2
    lines = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[1] | {"pictures": None} == {
        "request": "two cats", "caption": "a cat", "pictures": None, "scores": [[0.0, 1.0]], "score": 0.5,
    }  # fmt: skip
    assert ArtifactStore(tmp_path / "pictures").open(lines[1]["pictures"][0]).size == (256, 256)


def test_captions_of_a_request_are_drawn_with_the_same_seed(tmp_path: Path, requests: list[EvalPrompt]) -> None:
    asked: list[tuple[str, int | None]] = []

    class Noting(FlatColourGenerator):
        def generate(self, requests: Any, **options: Any) -> Any:
            asked.extend((request.prompt, request.seed) for request in requests)
            return super().generate(requests, **options)

    all_steps(tmp_path, requests, Judge(0, 0, 0, 0), generator=Noting())
    assert asked == [("two cats", 5), ("a cat", 5), ("three cats", 1005), ("cats", 1005)]


def test_nothing_that_is_stored_is_made_again(tmp_path: Path, requests: list[EvalPrompt]) -> None:
    first = all_steps(tmp_path, requests, Judge(1, 0, 1, 0))
    captions = DrawnCaptions(tmp_path, requests, PLAN)
    captions.sample(never, {"model": "a"})
    captions.draw(never, {"generator": "flat"})
    captions.score(never, {"judge": "j"})
    assert captions.records() == first


def test_an_interrupted_step_resumes(tmp_path: Path, requests: list[EvalPrompt]) -> None:
    captions = DrawnCaptions(tmp_path, requests, PLAN)
    with pytest.raises(MgemError):
        captions.sample(lambda: ScriptedReasoner(script=SCRIPT[:3]), {"model": "a"})  # dies at the fourth
    captions.sample(lambda: ScriptedReasoner(script=SCRIPT[3:]), {"model": "a"})
    captions.draw(FlatColourGenerator, {})
    with pytest.raises(IndexError):
        captions.score(lambda: Judge(1.0), {})  # dies at the second
    judge = Judge(0.0, 0.0, 0.0)
    captions.score(lambda: judge, {})
    assert len(judge.seen) == 3
    assert [[each.score for each in row] for row in captions.records()] == [[1.0, 0.5], [0.5, 0.5]]


def test_other_settings_are_refused(tmp_path: Path, requests: list[EvalPrompt]) -> None:
    all_steps(tmp_path, requests, Judge(1, 0, 1, 0))
    with pytest.raises(InputError, match="made with other settings"):
        DrawnCaptions(tmp_path, requests, PLAN).sample(never, {"model": "b"})


def test_more_requests_and_captions_keep_those_that_exist(tmp_path: Path, requests: list[EvalPrompt]) -> None:
    captions = DrawnCaptions(tmp_path, requests[:1], PLAN)
    captions.sample(lambda: ScriptedReasoner(script=SCRIPT[:2]), {})
    more = DrawnCaptions(tmp_path, requests, CaptionPlan(3, 1, 0.8, 96, 5))
    reasoner = ScriptedReasoner(script=["<h> cats </h>"] * 4)
    more.sample(lambda: reasoner, {})
    assert len(reasoner.requests) == 4


def test_a_picture_that_fails_scores_zero(tmp_path: Path, requests: list[EvalPrompt]) -> None:
    judge = Judge(1.0)
    found = all_steps(tmp_path, requests[:1], judge, generator=FlatColourGenerator(fail_on="a cat"))
    assert [each.pictures[0] is None for each in found[0]] == [False, True]
    assert found[0][1].scores == ((0.0, 0.0),) and len(judge.seen) == 1
