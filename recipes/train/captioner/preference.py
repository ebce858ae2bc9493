"""DPO of the captioner's adapter by TRL: the better caption becomes likelier than the worse one.

The adapter is new, so the model without it is the reference, and no second copy is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mgem_agent.extras import require_packages
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
from mgem_agent.recipes.train.captioner.pairs import CaptionPair

__all__ = ["preference_rows", "train_preferences"]


def preference_rows(pairs: Sequence[CaptionPair]) -> list[dict[str, Any]]:
    """Return the pairs in TRL's conversational form; a caption is the answer, between `<h>` and `</h>`.

    Args:
        pairs: The pairs.
    """

    def answer(caption: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": f"<h> {caption} </h>"}]

    return [
        {"prompt": request_messages(pair.request), "chosen": answer(pair.chosen), "rejected": answer(pair.rejected)}
        for pair in pairs
    ]


def train_preferences(
    config: CaptionerConfig, pairs: Sequence[CaptionPair], out: Path, say: Callable[[str], None] = lambda message: None
) -> None:
    """Train an adapter on pairs, and write the whole model with the adapter merged.

    Args:
        config: The training.
        pairs: The pairs.
        out: Folder of the model, for `from_pretrained`; it appears when it is complete.
        say: Called with progress messages.

    Raises:
        MissingDependencyError: If TRL is not installed.
        InputError: If no layer of the model can have an adapter.
    """
    require_packages("Training on preferences", "trl", "datasets")
    import datasets  # pyright: ignore[reportMissingImports]
    import trl  # pyright: ignore[reportMissingImports]

    model, processor = load_for_training(config)
    settings = config.optimizer
    with quiet_packages():
        arguments = trl.DPOConfig(
            **shared_arguments(config, out),
            beta=settings.beta,
            loss_type=["sigmoid", "sft"] if settings.likelihood else ["sigmoid"],
            loss_weights=[1.0, settings.likelihood] if settings.likelihood else None,
            per_device_train_batch_size=settings.micro_batch,
            gradient_accumulation_steps=settings.batch // settings.micro_batch,
            max_length=None,  # a cut could go through visual tokens
            save_strategy="no",
        )
        trainer = trl.DPOTrainer(
            model=model,
            args=arguments,
            train_dataset=datasets.Dataset.from_list(preference_rows(pairs)),
            processing_class=processor,
            peft_config=new_adapter(model, config),
        )
        say_steps(trainer, say, lambda line: f"loss {line['loss']:.4f}, margin {line.get('rewards/margins', 0):+.4f}")
        trainer.train()
    save_merged(trainer.model, processor, out)
