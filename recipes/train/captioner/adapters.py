"""What TRL's trainers of the captioner share: the model, the adapter, the arguments, and the model at the end."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.recipes.train.captioner.config import CaptionerConfig
from mgem_agent.recipes.train.checkpoints import put_in_place
from mgem_agent.recipes.train.config import ModelConfig
from mgem_agent.recipes.train.model_setup import load_model, lora_pattern
from mgem_agent.recipes.train.precision import training_dtype

__all__ = [
    "load_for_training",
    "new_adapter",
    "quiet_packages",
    "request_messages",
    "save_merged",
    "say_steps",
    "shared_arguments",
]

_WARMUP = 0.1


def load_for_training(config: CaptionerConfig) -> tuple[MiniGeminiForConditionalGeneration, MiniGeminiProcessor]:
    """Load the captioner, with frozen weights, and its processor.

    Args:
        config: The training.
    """
    model, processor = load_model(ModelConfig(checkpoint=config.model), training_dtype(config.precision))
    return model.requires_grad_(False), processor


def new_adapter(model: MiniGeminiForConditionalGeneration, config: CaptionerConfig) -> Any:
    """Return peft's configuration of a new adapter of the language model.

    Args:
        model: The model.
        config: The training.

    Raises:
        InputError: If no layer of the model can have an adapter.
    """
    from peft import LoraConfig

    options = config.lora
    return LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,  # type: ignore[arg-type]
        lora_dropout=options.dropout,
        target_modules=lora_pattern(model, options),
    )


def request_messages(request: str) -> list[dict[str, Any]]:
    """Return a request as in the agent: with `draw`, for which the prompt template adds `<GEN>`.

    Args:
        request: The request.
    """
    return [{"role": "user", "content": request, "draw": True}]


def shared_arguments(config: CaptionerConfig, out: Path) -> dict[str, Any]:
    """Return the arguments of transformers' trainer.

    Args:
        config: The training.
        out: Folder of the trained model.
    """
    return {
        "output_dir": str(out.with_name("trl")),
        "learning_rate": config.optimizer.learning_rate,
        "num_train_epochs": config.optimizer.epochs,
        "warmup_steps": _WARMUP,  # below 1: a share of the steps
        "bf16": training_dtype(config.precision) == torch.bfloat16,
        "gradient_checkpointing": torch.cuda.is_available(),
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
        "seed": config.sampling.seed,
    }


@contextmanager
def quiet_packages() -> Iterator[None]:
    """Hide the warnings and progress bars of TRL and its packages for a while."""
    from datasets.utils import (  # pyright: ignore[reportMissingImports]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    was_hidden = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if not was_hidden:
            enable_progress_bars()


class _Steps(TrainerCallback):
    """Reports each step."""

    def __init__(self, say: Callable[[str], None], describe: Callable[[Mapping[str, float]], str]) -> None:
        self._say = say
        self._describe = describe

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Report a line of the log, except the summary at the end."""
        if logs and "loss" in logs:
            self._say(f"step {state.global_step} of {state.max_steps}: {self._describe(logs)}")


def say_steps(trainer: Any, say: Callable[[str], None], describe: Callable[[Mapping[str, float]], str]) -> None:
    """Let a trainer report its steps here instead of printing them.

    Args:
        trainer: TRL's trainer.
        say: Called with a message.
        describe: Makes a message of a line of the log.
    """
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Steps(say, describe))


def save_merged(model: Any, processor: MiniGeminiProcessor, out: Path) -> None:
    """Merge the adapter, and write the whole model, which appears when it is complete.

    Args:
        model: The model as peft wraps it.
        processor: Its processor.
        out: The folder.
    """
    merged: Any = model.merge_and_unload()
    passing = out.with_name(out.name + ".part")
    shutil.rmtree(passing, ignore_errors=True)
    merged.save_pretrained(passing)
    processor.save_pretrained(passing)
    put_in_place(passing, out)
