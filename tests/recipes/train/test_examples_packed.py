"""Packed records: one row without padding, in which no record sees another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration
from mgem_agent.recipes.train.config import TrainConfig
from mgem_agent.recipes.train.examples import NO_TARGET
from mgem_agent.recipes.train.model_setup import prepare_model
from mgem_agent.recipes.train.program import train, training_examples
from mgem_agent.recipes.train.run_log import read_log
from mgem_agent.recipes.train.target_loss import TargetLoss

MakeRun = Callable[..., TrainConfig]
RECORDS = (9, 0, 10, 5, 11)
"""Text alone, pictures, and different lengths."""


def family_model(model_folder: Path, family: str) -> MiniGeminiForConditionalGeneration:
    """A tiny model whose language model is of a family, with weights large enough that attention matters."""
    config = MiniGeminiConfig.from_pretrained(model_folder).to_dict()
    kept = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size")
    text: dict[str, Any] = {"model_type": family, "num_hidden_layers": 2, "initializer_range": 0.3}
    text |= {key: config["text_config"][key] for key in kept}
    if family == "mixtral":
        text |= {"num_local_experts": 4, "num_experts_per_tok": 2}
    if family.startswith("gemma"):
        text |= {"head_dim": 16, "sliding_window": 8}
    config["text_config"] = text
    torch.manual_seed(0)
    return MiniGeminiForConditionalGeneration(MiniGeminiConfig.from_dict(config)).eval()


@pytest.mark.parametrize(
    ("family", "attention"),
    [("llama", "sdpa"), ("llama", "eager"), ("gemma", "sdpa"), ("gemma2", "eager"), ("mixtral", "sdpa")],
)  # transformers has no SDPA for Gemma 2
def test_each_record_has_the_loss_that_it_has_alone(
    make_run: MakeRun, model_folder: Path, family: str, attention: str
) -> None:
    config = make_run(data__packing=True)
    trained = prepare_model(make_run(stage="align", train={}), torch.float32)
    model = family_model(model_folder, family)
    model.model.language_model.set_attn_implementation(attention)
    loss = TargetLoss(model)
    one = torch.ones(())
    packed = training_examples(config.data.sources, config, trained).batch(RECORDS)
    alone = training_examples(config.data.sources, make_run(), trained)
    assert packed.inputs["input_ids"].shape[0] == 1
    assert packed.num_tokens == packed.inputs["input_ids"].numel()
    starts = [*(packed.inputs["position_ids"][0] == 0).nonzero().flatten().tolist(), packed.num_tokens]
    with torch.no_grad():
        for record, (start, end) in zip(RECORDS, zip(starts, starts[1:], strict=False), strict=True):
            labels = torch.full_like(packed.inputs["labels"], NO_TARGET)
            labels[:, start:end] = packed.inputs["labels"][:, start:end]
            expected = loss(alone.batch([record]).inputs, one)
            torch.testing.assert_close(loss({**packed.inputs, "labels": labels}, one), expected, rtol=1e-4, atol=1e-4)
    assert packed.num_targets == sum(alone.batch([record]).num_targets for record in RECORDS)


def test_a_record_that_saw_another_would_have_another_loss(make_run: MakeRun, model_folder: Path) -> None:
    config = make_run(data__packing=True)
    trained = prepare_model(make_run(stage="align", train={}), torch.float32)
    loss = TargetLoss(family_model(model_folder, "llama"))
    inputs = training_examples(config.data.sources, config, trained).batch(RECORDS).inputs
    mixed = {**inputs, "position_ids": torch.arange(inputs["input_ids"].numel())[None]}
    with torch.no_grad():
        difference = loss(inputs, torch.ones(())) - loss(mixed, torch.ones(()))
    assert abs(float(difference)) > 1


def test_a_packed_run_learns_as_a_padded_one(make_run: MakeRun, tmp_path: Path, data_file: Path) -> None:
    found = []
    for packing in (False, True):
        output = tmp_path / str(packing)
        evaluation = {"sources": [{"path": str(data_file)}], "every": 3}
        train(
            make_run(
                run__output=str(output),
                run__max_steps=3,
                run__micro_batch=4,
                run__gradient_checkpointing=packing,
                train__lora={"rank": 2},
                data__packing=packing,
                evaluation=evaluation,
            )
        )
        lines = read_log(output)
        found.append([line["loss"] for line in lines if "loss" in line])
        found[-1] += [line["evaluation_loss"] for line in lines if "evaluation_loss" in line]
    assert found[1] == pytest.approx(found[0], rel=1e-4)
