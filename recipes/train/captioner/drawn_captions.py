"""Captions of requests, their pictures, and the judge's scores of these: a folder that an interrupted run can resume.

The three steps follow each other, so that one model at a time needs memory, and each has a log: `captions.jsonl`,
`pictures.jsonl` (ids in `pictures/`) and `scores.jsonl`; `records.jsonl` joins them. All captions of a request are
drawn with the same seeds, so that their scores differ by what they say.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.errors import GeneratorUnavailableError
from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME
from mgem_agent.recipes.eval.agent.figure_judge import FigureJudge
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.recipes.eval.agent.soft_tifa import arithmetic_mean
from mgem_agent.recipes.eval.answer_log import AnswerLog
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult

__all__ = ["CaptionPlan", "DrawnCaption", "DrawnCaptions", "Progress", "sample_caption"]

Progress = Callable[[str, int, int], None]

_AT_ONCE = 8
_SEEDS_A_REQUEST = 1000


@dataclass(frozen=True)
class CaptionPlan:
    """How captions are sampled and drawn.

    Args:
        num_captions: Captions of a request; the first is greedy.
        num_pictures: Pictures of a caption.
        temperature: Temperature of the other captions.
        max_tokens: Maximum tokens of an answer.
        seed: Seed of the captions and of the pictures.
    """

    num_captions: int = 1
    num_pictures: int = 1
    temperature: float = 1.0
    max_tokens: int = 96
    seed: int = 0


@dataclass(frozen=True)
class DrawnCaption:
    """A caption and what came of it.

    Args:
        request: The request.
        caption: The caption; empty if the model wrote none.
        pictures: Ids of its pictures in the folder's store; None for one that failed.
        scores: For each picture, the score of each question; zeros without a picture.
    """

    request: str
    caption: str
    pictures: tuple[str | None, ...]
    scores: tuple[tuple[float, ...], ...]

    @property
    def score(self) -> float:
        """The mean over the pictures of the mean score of their questions (Soft-TIFA AM), from 0 to 1."""
        return statistics.fmean(map(arithmetic_mean, self.scores))


class DrawnCaptions:
    """A folder of drawn captions.

    Args:
        folder: The folder.
        requests: The requests.
        plan: How captions are sampled and drawn.
        report: Called with the step, the number done and the total.
    """

    def __init__(
        self,
        folder: Path,
        requests: Sequence[EvalPrompt],
        plan: CaptionPlan,
        report: Progress = lambda what, done, total: None,
    ) -> None:
        self.folder = folder
        self.store = ArtifactStore(folder / "pictures")
        self._requests = requests
        self._plan = plan
        self._report = report
        self._captions = [(request, k) for request in requests for k in range(plan.num_captions)]
        self._pictures = [(request, k, p) for request, k in self._captions for p in range(plan.num_pictures)]

    def sample(self, open_model: Callable[[], GenProtocolModel], settings: Mapping[str, Any]) -> None:
        """Let the model write the missing captions.

        Args:
            open_model: Loads the model.
            settings: What the captions depend on, such as the state of the model's weights.

        Raises:
            InputError: If the folder has captions of other settings.
            MgemError: If the model fails. What is stored is kept.
        """
        with AnswerLog.open(self.folder / "captions.jsonl", {**settings, **self._plan_settings()}) as log:
            missing = [each for each in self._captions if _key(*each) not in log.answers]
            model = open_model() if missing else None
            for number, (request, k) in enumerate(missing):
                self._report("captions", len(self._captions) - len(missing) + number, len(self._captions))
                assert model is not None  # noqa: S101
                caption = sample_caption(model, request.prompt, self._plan, k)
                log.add({"id": _key(request, k), "request": request.prompt, "caption": caption})

    def draw(self, open_generator: Callable[[], ImageGenerator], settings: Mapping[str, Any]) -> None:
        """Draw the missing pictures.

        Args:
            open_generator: Creates the generator.
            settings: What the pictures depend on besides the captions.

        Raises:
            InputError: If the folder has pictures of other settings.
            GeneratorUnavailableError: If the generator cannot draw at all.
        """
        captions = self._answers("captions.jsonl")
        with AnswerLog.open(self.folder / "pictures.jsonl", {**settings, **self._plan_settings()}) as log:
            missing = [each for each in self._pictures if _key(*each) not in log.answers]
            generator = open_generator() if missing else None
            for start in range(0, len(missing), _AT_ONCE):
                self._report("pictures", len(self._pictures) - len(missing) + start, len(self._pictures))
                assert generator is not None  # noqa: S101
                some = missing[start : start + _AT_ONCE]
                asked = [(each, captions[_key(*each[:2])]["caption"]) for each in some]
                self._draw([pair for pair in asked if pair[1]], generator, log)
                for each, caption in asked:
                    if not caption:
                        log.add({"id": _key(*each), "picture": None})
            if generator is not None:
                generator.unload()

    def _draw(
        self, asked: Sequence[tuple[tuple[EvalPrompt, int, int], str]], generator: ImageGenerator, log: AnswerLog
    ) -> None:
        requests = [
            ImageRequest(prompt=caption[:10_000], seed=self._picture_seed(request, p))
            for (request, _, p), caption in asked
        ]
        for event in draw(generator, requests) if requests else ():
            if isinstance(event, ImageResult):
                if isinstance(event.error, GeneratorUnavailableError):
                    raise event.error
                picture = None if event.image is None else self.store.put(event).id
                problem = None if event.error is None else str(event.error)
                log.add({"id": _key(*asked[event.index][0]), "picture": picture, "problem": problem})

    def score(self, open_judge: Callable[[], FigureJudge], settings: Mapping[str, Any]) -> None:
        """Score the missing pictures.

        Args:
            open_judge: Loads the judge.
            settings: What the scores depend on besides the pictures.

        Raises:
            InputError: If the folder has scores of other settings.
            MgemError: If the judge fails. What is stored is kept.
        """
        drawn = self._answers("pictures.jsonl")
        with AnswerLog.open(self.folder / "scores.jsonl", {**settings, **self._plan_settings()}) as log:
            missing = [each for each in self._pictures if _key(*each) not in log.answers]
            judge = open_judge() if missing else None
            for number, each in enumerate(missing):
                self._report("scores", len(self._pictures) - len(missing) + number, len(self._pictures))
                assert judge is not None  # noqa: S101
                picture = drawn[_key(*each)]["picture"]
                num = 1 if judge.kind == "vqascore" else len(each[0].vqa_list)
                row = [0.0] * num if picture is None else judge.score(self.store.path(picture), each[0])
                log.add({"id": _key(*each), "scores": [round(value, 6) for value in row]})

    def records(self) -> list[list[DrawnCaption]]:
        """Return the drawn captions of each request, and write them to `records.jsonl`.

        Raises:
            KeyError: If a step has not been finished.
        """
        captions, pictures = self._answers("captions.jsonl"), self._answers("pictures.jsonl")
        scores = self._answers("scores.jsonl")
        num_pictures = range(self._plan.num_pictures)
        found = [
            [
                DrawnCaption(
                    request.prompt,
                    captions[_key(request, k)]["caption"],
                    tuple(pictures[_key(request, k, p)]["picture"] for p in num_pictures),
                    tuple(tuple(scores[_key(request, k, p)]["scores"]) for p in num_pictures),
                )
                for k in range(self._plan.num_captions)
            ]
            for request in self._requests
        ]
        lines = [json.dumps({**asdict(each), "score": each.score}, ensure_ascii=False) for row in found for each in row]
        (self.folder / "records.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return found

    def _answers(self, name: str) -> dict[str, dict[str, Any]]:
        with (self.folder / name).open(encoding="utf-8") as lines:
            return {found["id"]: found for found in map(json.loads, lines)}

    def _plan_settings(self) -> dict[str, Any]:
        """Return the settings of the plan; with more captions or pictures, those that exist are kept."""
        return {name: getattr(self._plan, name) for name in ("temperature", "max_tokens", "seed")}

    def _picture_seed(self, request: EvalPrompt, number: int) -> int:
        return self._plan.seed + _SEEDS_A_REQUEST * self._requests.index(request) + number


def sample_caption(model: GenProtocolModel, request: str, plan: CaptionPlan, number: int) -> str:
    """Return a caption that a model writes for a request after `<GEN>`; empty if it writes none.

    Args:
        model: The model.
        request: The request.
        plan: How captions are sampled.
        number: Which caption; 0 is the greedy one.
    """
    answer = model.invoke(
        [HumanMessage(request)],
        draw="always",
        temperature=plan.temperature if number else 0,
        seed=plan.seed + number,
        max_tokens=plan.max_tokens,
    )
    return next((str(call["args"]["prompt"]) for call in answer.tool_calls if call["name"] == DRAW_TOOL_NAME), "")


def _key(request: EvalPrompt, *numbers: int) -> str:
    return "/".join([request.prompt, *map(str, numbers)])
