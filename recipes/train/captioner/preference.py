"""DPO of the captioner's adapter by TRL: the better caption becomes likelier than the worse one.

The adapter is new, so the model without it is the reference, and no second copy is loaded. A request is rendered as in
the agent: with `draw`, which adds `<GEN>`, and the caption between `<h>` and `</h>` as the answer.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.extras import require_packages
from mgem_agent.recipes.nano.eval.seeing_model import find_weights
from mgem_agent.recipes.train.captioner.config import CaptionerConfig
from mgem_agent.recipes.train.captioner.pairs import CaptionPair
from mgem_agent.recipes.train.checkpoints import put_in_place
from mgem_agent.recipes.train.model_setup import lora_pattern
from mgem_agent.recipes.train.precision import training_dtype

__all__ = ["preference_rows", "train_preferences"]

_WARMUP = 0.1


def preference_rows(pairs: Sequence[CaptionPair]) -> list[dict[str, Any]]:
    """Return the pairs in TRL's conversational form.

    Args:
        pairs: The pairs.
    """

    def answer(caption: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": f"<h> {caption} </h>"}]

    return [
        {
            "prompt": [{"role": "user", "content": pair.request, "draw": True}],
            "chosen": answer(pair.chosen),
            "rejected": answer(pair.rejected),
        }
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
    import datasets
    import trl
    from peft import LoraConfig

    weights = find_weights(config.model)
    dtype = training_dtype(config.precision)
    model: Any = MiniGeminiForConditionalGeneration.from_pretrained(weights, dtype=dtype)
    model.requires_grad_(False)
    processor = MiniGeminiProcessor.from_pretrained(weights)
    options, settings = config.lora, config.optimizer
    lora = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,  # type: ignore[arg-type]
        lora_dropout=options.dropout,
        target_modules=lora_pattern(model, options),
    )
    arguments = trl.DPOConfig(
        output_dir=str(out.with_name("trl")),
        beta=settings.beta,
        loss_type=["sigmoid", "sft"] if settings.likelihood else ["sigmoid"],
        loss_weights=[1.0, settings.likelihood] if settings.likelihood else None,
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=settings.batch // settings.micro_batch,
        warmup_ratio=_WARMUP,
        max_length=None,  # a cut could go through visual tokens
        bf16=dtype == torch.bfloat16,
        gradient_checkpointing=False,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        seed=config.sampling.seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other packages
        trainer = trl.DPOTrainer(
            model=model,
            args=arguments,
            train_dataset=datasets.Dataset.from_list(preference_rows(pairs)),
            processing_class=processor,
            peft_config=lora,
        )
        trainer.train()
        for line in trainer.state.log_history:
            if "loss" in line:
                say(f"step {line.get('step')}: loss {line['loss']:.4f}, margin {line.get('rewards/margins', 0):+.3f}")
        merged: Any = trainer.model.merge_and_unload()
    _save(merged, processor, out)


def _save(model: Any, processor: MiniGeminiProcessor, out: Path) -> None:
    """Write a model where it appears at once."""
    passing = out.with_name(out.name + ".part")
    shutil.rmtree(passing, ignore_errors=True)
    model.to(torch.bfloat16 if model.dtype == torch.bfloat16 else torch.float32)
    model.save_pretrained(passing)
    processor.save_pretrained(passing)
    put_in_place(passing, out)
