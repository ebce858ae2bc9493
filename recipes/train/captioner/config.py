"""The configuration of a captioner's training: model, generator, judges, requests, sampling and optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mgem_agent.recipes.train.config import LoraOptions, Positive, Precision
from mgem_agent.recipes.train.config_file import load_settings

__all__ = ["CaptionerConfig", "CaptionerOptimizer", "RequestFiles", "Sampling", "load_captioner_config"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class RequestFiles(_Section):
    """The requests, in the form of GenEval 2: a prompt and the questions about it.

    Args:
        train: JSON lines of requests to train on; None for requests of nano's world.
        held_out: JSON lines of requests to measure with; None for the shipped ones of nano's world.
        num_train: Number of requests to train on.
        num_held_out: Number of requests to measure with.
    """

    train: str | None = None
    held_out: str | None = None
    num_train: Positive = 24
    num_held_out: Positive = 12


class Sampling(_Section):
    """How captions are sampled and drawn.

    Args:
        captions: Captions sampled for a request.
        pictures: Pictures drawn of each caption, with other seeds. The score of a caption is the mean of theirs.
        temperature: Temperature of the captions; the first of a request is always greedy.
        max_tokens: Maximum tokens of an answer.
        seed: Seed of the captions and of the pictures.
    """

    captions: Annotated[int, Field(ge=2)] = 3
    pictures: Positive = 1
    temperature: Annotated[float, Field(gt=0, le=2)] = 0.8
    max_tokens: Positive = 96
    seed: Annotated[int, Field(ge=0)] = 0


class CaptionerOptimizer(_Section):
    """TRL's training of the adapter.

    Args:
        beta: DPO's weight of the distance to the model before.
        kl: GRPO's weight of the divergence from the model before.
        likelihood: Weight of the better caption's own likelihood in addition to DPO's loss; without it, both captions
            may become less likely.
        learning_rate: Peak learning rate; it falls linearly to zero.
        epochs: Passes over the pairs.
        batch: Pairs (DPO) or requests (GRPO) of a step.
        micro_batch: Pairs of a forward pass; gradients are accumulated up to the batch. GRPO passes the captions
            of one request.
    """

    beta: Annotated[float, Field(gt=0)] = 0.1
    kl: Annotated[float, Field(ge=0)] = 0.0
    likelihood: Annotated[float, Field(ge=0)] = 0.2
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    epochs: Annotated[float, Field(gt=0)] = 3.0
    batch: Positive = 8
    micro_batch: Positive = 2

    @model_validator(mode="after")
    def _check(self) -> CaptionerOptimizer:
        if self.batch % self.micro_batch:
            raise ValueError(f"has a batch of {self.batch} that is no multiple of its micro_batch, {self.micro_batch}")
        return self


class CaptionerConfig(_Section):
    """A captioner's training.

    Args:
        model: The core model: `nano`, a folder, or a hub id.
        generator: Name of the image generator.
        reward: The judge whose scores make the pairs: a chat model that takes pictures, or `vqascore:MODEL`.
        judge: The judge of the figure; another model than the reward.
        judge_python: For `vqascore:MODEL`, the interpreter of an environment with t2v_metrics.
        same_judge: Whether to allow one model as both; the report then says so.
        requests: The requests.
        sampling: How captions are sampled and drawn.
        margin: Smallest difference of the scores of a pair.
        lora: The adapter.
        optimizer: TRL's training.
        precision: `bf16`, `fp32`, or `auto` for what the hardware does fastest.
        understanding: Questions of each kind about held-out scenes, before and after; 0 for none.
        output: Folder of the run.
    """

    model: str
    generator: str
    reward: str
    judge: str
    judge_python: str | None = None
    same_judge: bool = False
    requests: RequestFiles = RequestFiles()
    sampling: Sampling = Sampling()
    margin: Annotated[float, Field(ge=0, le=1)] = 0.05
    lora: LoraOptions = LoraOptions()
    optimizer: CaptionerOptimizer = CaptionerOptimizer()
    precision: Precision = "auto"
    understanding: Annotated[int, Field(ge=0)] = 8
    output: str

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return Path(self.output)

    def result_settings(self) -> dict[str, Any]:
        """Return the settings that change the trained weights."""
        return self.model_dump(mode="json", exclude={"output", "judge", "same_judge", "understanding"})


def load_captioner_config(source: str | Path, overrides: Sequence[str] = ()) -> CaptionerConfig:
    """Read and validate a configuration.

    Args:
        source: A YAML file, or the name of a shipped configuration: `nano` or `mgm_7b`.
        overrides: `key=value` words with dotted keys.

    Raises:
        InputError: If the file cannot be read, or a key or value is not valid.
    """
    return load_settings(CaptionerConfig, source, overrides, package="mgem_agent.recipes.train.captioner")
