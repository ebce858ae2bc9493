"""transformers' own trainer and TRL's, on the model and its processor: two steps each, with pictures."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import Trainer, TrainingArguments

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor

OPTIONS: dict[str, Any] = {
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-2,
    "warmup_steps": 0,
    "logging_steps": 1,
    "report_to": "none",
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
}


@pytest.fixture(autouse=True)
def warnings_of_others() -> Iterator[None]:
    """Let TRL and its libraries warn; our own warnings are errors elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def imported() -> tuple[Any, Any]:
    """Return TRL and its library of data sets, or skip the test."""
    reason = "trl is not installed: pip install trl"
    return pytest.importorskip("trl", reason=reason), pytest.importorskip("datasets", reason=reason)


@pytest.fixture
def model(model_folder: Path) -> MiniGeminiForConditionalGeneration:
    loaded: MiniGeminiForConditionalGeneration = MiniGeminiForConditionalGeneration.from_pretrained(model_folder)
    return loaded


@pytest.fixture
def processor(model_folder: Path) -> MiniGeminiProcessor:
    return MiniGeminiProcessor.from_pretrained(model_folder)


def dialogue(colour: str) -> dict[str, Any]:
    return {
        "images": [Image.new("RGB", (20, 16), colour)],
        "prompt": [{"role": "user", "content": "What colour is it?"}],
        "completion": [{"role": "assistant", "content": f"It is {colour}."}],
    }


def assert_learned(trainer: Any, before: dict[str, torch.Tensor], first: float) -> None:
    """The first loss is as expected. Two steps change all parts except the encoders."""
    assert trainer.train().global_step == 2
    losses = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    assert len(losses) == 2
    assert losses[0] == pytest.approx(first, rel=1e-3)
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    changed = {
        name.split(".")[1] if name.startswith("model.") else name
        for name, value in trainer.model.named_parameters()
        if not torch.equal(value.detach(), before[name])
    }
    assert {"mining", "multi_modal_projector", "language_model"} <= changed
    assert not {"vision_tower", "high_res_vision_tower"} & changed


def own_loss(model: MiniGeminiForConditionalGeneration, trainer: Any) -> float:
    """Return the mean loss of a target token of the first batch, from logits of each record alone."""
    batch = next(iter(trainer.get_train_dataloader()))
    total, count = 0.0, 0
    for index in range(len(batch["input_ids"])):
        inputs = {name: value[index : index + 1] for name, value in batch.items() if name != "labels"}
        with torch.no_grad():
            logits: Any = model.eval()(**inputs).logits
        labels = batch["labels"][index, 1:]
        total += float(torch.nn.functional.cross_entropy(logits[0, :-1], labels, ignore_index=-100, reduction="sum"))
        count += int((labels != -100).sum())
    assert count
    return total / count


def weights(model: MiniGeminiForConditionalGeneration) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


@pytest.mark.slow
def test_transformers_own(
    model: MiniGeminiForConditionalGeneration, processor: MiniGeminiProcessor, tmp_path: Path
) -> None:
    def collate(records: list[dict[str, Any]]) -> dict[str, Any]:
        messages = [
            [
                {"role": "user", "content": [{"type": "image", "image": record["images"][0]}, *text(record["prompt"])]},
                {"role": "assistant", "content": text(record["completion"])},
            ]
            for record in records
        ]
        batch = processor.apply_chat_template(
            messages,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            return_assistant_tokens_mask=True,
            padding=True,
        )
        inputs: dict[str, Any] = dict(batch)
        learned = inputs.pop("assistant_masks")
        inputs["labels"] = inputs["input_ids"].masked_fill(torch.as_tensor(learned) == 0, -100)
        return inputs

    before = weights(model)
    arguments = TrainingArguments(output_dir=str(tmp_path), remove_unused_columns=False, **OPTIONS)
    records = [dialogue(colour) for colour in ("red", "green", "blue", "white")]
    trainer = Trainer(model=model, args=arguments, train_dataset=records, data_collator=collate)  # type: ignore[arg-type]
    assert_learned(trainer, before, own_loss(model, trainer))


def text(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"type": "text", "text": message["content"]} for message in messages]


@pytest.mark.slow
def test_trl_for_fine_tuning(
    model: MiniGeminiForConditionalGeneration, processor: MiniGeminiProcessor, tmp_path: Path
) -> None:
    trl, datasets = imported()
    before = weights(model)
    records = [dialogue(colour) for colour in ("red", "green", "blue", "white")]
    told = [{"images": one["images"], "messages": one["prompt"] + one["completion"]} for one in records]
    trainer = trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(output_dir=str(tmp_path), max_length=None, assistant_only_loss=True, **OPTIONS),
        train_dataset=datasets.Dataset.from_list(told),
        processing_class=processor,
    )
    assert_learned(trainer, before, own_loss(model, trainer))


@pytest.mark.slow
def test_trl_for_preferences(
    model: MiniGeminiForConditionalGeneration, processor: MiniGeminiProcessor, model_folder: Path, tmp_path: Path
) -> None:
    trl, datasets = imported()
    before = weights(model)
    records = [
        {
            "images": one["images"],
            "prompt": one["prompt"],
            "chosen": one["completion"],
            "rejected": [{"role": "assistant", "content": "I do not know."}],
        }
        for one in map(dialogue, ("red", "green", "blue", "white"))
    ]
    trainer = trl.DPOTrainer(
        model=model,
        ref_model=MiniGeminiForConditionalGeneration.from_pretrained(model_folder),
        args=trl.DPOConfig(output_dir=str(tmp_path), max_length=None, **OPTIONS),
        train_dataset=datasets.Dataset.from_list(records),
        processing_class=processor,
    )
    assert_learned(trainer, before, math.log(2))
