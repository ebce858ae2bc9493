"""What a run needs: parameters as they really are trained, memory by the formulas, steps and hours."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig

from mgem_agent.core_model import MiniGeminiConfig
from mgem_agent.errors import InputError
from mgem_agent.recipes.train.config import TrainConfig
from mgem_agent.recipes.train.dry_run import (
    activation_bytes,
    estimate_run,
    memory_of_methods,
    part_sizes,
    seconds_per_step,
)
from mgem_agent.recipes.train.model_outline import empty_model, read_model_config
from mgem_agent.recipes.train.model_setup import prepare_model

MakeRun = Callable[..., TrainConfig]


@pytest.mark.parametrize(
    "changes",
    [
        {"train": {"llm": "lora", "lora": {"rank": 3}}},
        {"train": {"llm": "full"}},
        {"train": {"llm": "frozen", "projector": False, "vision_tower": True}, "stage": "align"},
        {"train": {"llm": "frozen", "high_res_vision_tower": True}, "stage": "align"},
    ],
)
def test_parameters_are_those_that_are_trained(make_run: MakeRun, changes: dict[str, Any]) -> None:
    config = make_run(**changes)
    real = list(prepare_model(config, torch.float32).model.parameters())
    model = empty_model(read_model_config(config.model))
    assert all(parameter.is_meta for parameter in model.parameters())
    parts = part_sizes(model, config)
    assert sum(part.num_trained for part in parts) == sum(one.numel() for one in real if one.requires_grad)
    assert sum(part.num_frozen for part in parts) == sum(one.numel() for one in real if not one.requires_grad)


def test_memory_follows_the_formulas() -> None:
    rows = {row.method: row for row in memory_of_methods(1000, 500, 8, 2)}
    assert rows["DDP"].total == 2 * 500 + 16 * 1000
    assert rows["ZeRO-1"].total == 2 * 500 + 4 * 1000 + 12 * 1000 / 8
    assert rows["ZeRO-2"].total == 2 * 500 + 2 * 1000 + 14 * 1000 / 8
    assert rows["ZeRO-3"].total == (2 * 500 + 16 * 1000) / 8
    assert rows["FSDP2"].total == (2 * 500 + 16 * 1000) / 8
    assert rows["ZeRO-2, optimizer on the CPU"].optimizer == 0


def test_a_model_of_seven_billion_takes_no_memory(make_run: MakeRun) -> None:
    config = MiniGeminiConfig(
        text_config=LlamaConfig(vocab_size=32_000),
        vision_config=CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=336,
            patch_size=14,
        ),
        high_res_vision_config={"hidden_sizes": [192, 384, 768, 1536], "depths": [3, 3, 27, 3]},
        high_res_image_size=768,
        image_token_id=32_000,
    )
    parts = {part.name: part for part in part_sizes(empty_model(config), make_run(train={"llm": "full"}))}
    assert parts["llm"].num_trained == 6_738_415_616  # Llama 2 7B's own number
    assert parts["vision_tower"].num_frozen == pytest.approx(303.5e6, rel=1e-3)  # CLIP-L/336's vision tower
    assert parts["high_res_vision_tower"].num_frozen == pytest.approx(196.2e6, rel=1e-2)  # ConvNeXt-L's stages


def test_the_length_of_a_run(make_run: MakeRun, data_file: Path) -> None:
    sources = [{"path": str(data_file)}, {"path": str(data_file), "repeat": 2}]
    config = make_run(data__sources=sources, run__max_steps=None, run__epochs=2)
    estimate = estimate_run(config, num_processes=2, step_s=1800.0)
    assert estimate.data is not None
    assert (estimate.data.num_records, estimate.data.num_steps) == (24, math.ceil(36 / 4) * 2)
    assert estimate.data.num_tokens > 72 * 16 * 8 / 12
    assert estimate.hours == 9.0 and estimate.accumulation == 1
    gone = make_run(data__sources=[{"path": "gone.jsonl"}])
    assert estimate_run(gone, num_processes=1).missing == ("gone.jsonl",)
    with pytest.raises(InputError, match="is no multiple of run.micro_batch=2"):
        estimate_run(config, num_processes=3)


def test_the_time_of_a_step_is_measured(tmp_path: Path) -> None:
    lines = [{"step": step, "seconds_per_step": seconds} for step, seconds in enumerate([9.0, 2.0, 4.0, 3.0])]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert seconds_per_step(tmp_path) == 3.0
    (tmp_path / "log.jsonl").write_text(json.dumps(lines[0]) + "\n")
    with pytest.raises(InputError, match=r"fewer than two lines .* Measure one with: mgem train"):
        seconds_per_step(tmp_path)


def test_activations_follow_the_formula(make_run: MakeRun) -> None:
    text = LlamaConfig(hidden_size=10, num_hidden_layers=3, vocab_size=100, num_attention_heads=5)
    logits = 8 * 100 * 2 * 256
    for precision, factor in (("bf16", 1), ("fp32", 2)):
        kept, recomputed = (
            activation_bytes(text, make_run(run__precision=precision, run__gradient_checkpointing=is_on))
            for is_on in (False, True)
        )
        assert kept == factor * 2 * 256 * 10 * 34 * 3 + logits
        assert recomputed == factor * 2 * 256 * 10 * (2 * 3 + 34) + logits
