"""GRPO of the captioner's adapter by TRL: captions of a request that score above their group's mean become likelier.

TRL samples the captions itself. The reward draws them and asks the judge, and notes each in `rewards.jsonl`. An answer
without a caption scores 0.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers.trainer_utils import get_last_checkpoint

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import GeneratorUnavailableError
from mgem_agent.extras import require_packages
from mgem_agent.gen.events import captions
from mgem_agent.gen.parser import parse
from mgem_agent.recipes.eval.agent.figure_judge import FigureJudge
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.recipes.eval.agent.soft_tifa import arithmetic_mean
from mgem_agent.recipes.train.captioner.adapters import (
    load_for_training,
    new_adapter,
    quiet_packages,
    request_messages,
    save_merged,
    say_steps,
    shared_arguments,
)
from mgem_agent.recipes.train.captioner.config import CaptionerConfig
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult

__all__ = ["PictureReward", "train_groups"]


class PictureReward:
    """Scores answers by what a generator draws of their captions.

    Args:
        requests: The requests.
        generator: The generator.
        judge: The judge.
        folder: Folder of `rewards.jsonl` and `pictures/`.
        num_pictures: Pictures of a caption.
        seed: Seed of the first picture.
    """

    __name__ = "picture_reward"  # TRL names its metrics by it

    def __init__(
        self,
        requests: Sequence[EvalPrompt],
        generator: ImageGenerator,
        judge: FigureJudge,
        folder: Path,
        *,
        num_pictures: int = 1,
        seed: int = 0,
    ) -> None:
        self._requests: Mapping[str, EvalPrompt] = {each.prompt: each for each in requests}
        self._generator = generator
        self._judge = judge
        self._log = folder / "rewards.jsonl"
        self._store = ArtifactStore(folder / "pictures")
        self._seeds = range(seed, seed + num_pictures)

    def __call__(self, completions: Sequence[Any], request: Sequence[str], **kwargs: Any) -> list[float]:
        """Return the score of each answer, from 0 to 1.

        Args:
            completions: The answers, as TRL passes them: lists of one message.
            request: The request of each.
            **kwargs: Other columns and values of TRL; not used.

        Raises:
            GeneratorUnavailableError: If the generator cannot draw at all.
            MgemError: If the judge fails.
        """
        written = [next(iter(captions(parse(answer[0]["content"]))), "") for answer in completions]
        drawn = self._drawn([caption for caption in written if caption])
        rewards = []
        with self._log.open("a", encoding="utf-8") as log:
            for caption, asked in zip(written, request, strict=True):
                pictures = drawn.get(caption, [])
                score = self._score(self._requests[asked], pictures) if caption else 0.0
                line = {"request": asked, "caption": caption, "pictures": pictures, "score": round(score, 6)}
                log.write(json.dumps(line, ensure_ascii=False) + "\n")
                rewards.append(score)
        return rewards

    def _drawn(self, wanted: Sequence[str]) -> dict[str, list[str | None]]:
        """Return the ids of the pictures of each caption; equal captions are drawn once."""
        jobs = [(caption, seed) for caption in dict.fromkeys(wanted) for seed in self._seeds]
        found: dict[str, list[str | None]] = {caption: [] for caption, _ in jobs}
        results: dict[int, str | None] = {}
        for event in draw(self._generator, [ImageRequest(prompt=each[:10_000], seed=seed) for each, seed in jobs]):
            if isinstance(event, ImageResult):
                if isinstance(event.error, GeneratorUnavailableError):
                    raise event.error
                results[event.index] = None if event.image is None else self._store.put(event).id
        for index, (caption, _) in enumerate(jobs):
            found[caption].append(results[index])
        return found

    def _score(self, asked: EvalPrompt, pictures: Sequence[str | None]) -> float:
        scores = [
            0.0 if picture is None else arithmetic_mean(self._judge.score(self._store.path(picture), asked))
            for picture in pictures
        ]
        return statistics.fmean(scores)


def train_groups(
    config: CaptionerConfig,
    requests: Sequence[EvalPrompt],
    reward: PictureReward,
    out: Path,
    say: Callable[[str], None] = lambda message: None,
) -> None:
    """Train an adapter on groups of captions, and write the whole model with the adapter merged.

    An interrupted training resumes from its last step.

    Args:
        config: The training.
        requests: The requests.
        reward: Scores the answers.
        out: Folder of the model, for `from_pretrained`; it appears when it is complete.
        say: Called with progress messages.

    Raises:
        MissingDependencyError: If TRL is not installed.
        InputError: If no layer of the model can have an adapter.
    """
    require_packages("Training on groups of captions", "trl", "datasets")
    import datasets  # pyright: ignore[reportMissingImports]
    import trl  # pyright: ignore[reportMissingImports]

    model, processor = load_for_training(config)
    shared = shared_arguments(config, out)
    rows = [{"prompt": request_messages(each.prompt), "request": each.prompt} for each in requests]
    checkpoints = Path(shared["output_dir"])
    with quiet_packages():
        arguments = trl.GRPOConfig(
            **shared,
            beta=config.optimizer.kl,
            num_generations=config.sampling.captions,
            per_device_train_batch_size=config.sampling.captions,
            gradient_accumulation_steps=config.optimizer.batch,
            max_completion_length=config.sampling.max_tokens,
            temperature=config.sampling.temperature,
            chat_template_kwargs={"return_tensors": None},  # prompts of other lengths are no tensor
            save_strategy="steps",
            save_steps=1,
            save_total_limit=1,
        )
        trainer = trl.GRPOTrainer(
            model=model,
            reward_funcs=reward,
            args=arguments,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=processor,
            peft_config=new_adapter(model, config),
        )
        say_steps(trainer, say, lambda line: f"reward {line.get('reward', 0):.4f}, loss {line['loss']:+.4f}")
        trainer.train(resume_from_checkpoint=get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None)
    save_merged(trainer.model, processor, out)
