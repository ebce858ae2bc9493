"""A tiny model on disk, pictures and records, and the configuration of a run over them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.recipes.train.config import TrainConfig

COLOURS = ("red", "green", "blue", "white")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors are quickest on one thread, most of all where other programs run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A model of 16 visual tokens an image, with its processor."""
    torch.manual_seed(0)
    config = MiniGeminiConfig(
        text_config={
            "model_type": "llama",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "vocab_size": 100,
            "max_position_embeddings": 512,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 7,
        },
        high_res_vision_config={
            "hidden_sizes": [4, 8, 12, 16],
            "depths": [1, 1, 2, 1],
            "layer_scale_init_value": 0.5,
        },
        high_res_image_size=64,
        image_token_id=100,
        prompt_template="chatml",
    )
    folder = tmp_path_factory.mktemp("model")
    MiniGeminiForConditionalGeneration(config).save_pretrained(folder)
    MiniGeminiProcessor.from_model_config(config, tokenizer).save_pretrained(folder)
    return folder


def records() -> list[dict[str, Any]]:
    """Eight records about pictures and four of text alone."""
    seen: list[dict[str, Any]] = [
        {
            "id": str(index),
            "image": f"{COLOURS[index % 4]}.png",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat is it?" + "?" * index},
                {"from": "gpt", "value": f"It is {COLOURS[index % 4]}."},
            ],
        }
        for index in range(8)
    ]
    told = [
        {
            "id": f"t{index}",
            "conversations": [
                {"from": "human", "value": "Say hello." * (index + 1), "draw": index % 2 == 1},
                {"from": "gpt", "value": "<h> hello </h>"},
            ],
        }
        for index in range(4)
    ]
    return seen + told


@pytest.fixture(scope="session")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records as JSON lines, with their pictures beside them."""
    folder = tmp_path_factory.mktemp("data")
    for colour in COLOURS:
        Image.new("RGB", (20, 16), colour).save(folder / f"{colour}.png")
    file = folder / "records.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records()), encoding="utf-8")
    return file


@pytest.fixture
def settings(model_folder: Path, data_file: Path, tmp_path: Path) -> dict[str, Any]:
    """A run of six steps as plain values."""
    return {
        "stage": "instruct",
        "model": {"checkpoint": str(model_folder), "prompt_template": "chatml"},
        "train": {"llm": "lora", "lora": {"rank": 2, "dropout": 0.1}},
        "data": {"sources": [{"path": str(data_file)}], "max_length": 256},
        "optimizer": {"learning_rate": 1e-2},
        "run": {
            "output": str(tmp_path / "run"),
            "max_steps": 6,
            "global_batch": 4,
            "micro_batch": 2,
            "precision": "fp32",
            "log_every": 1,
            "checkpoint_every": 2,
        },
    }


@pytest.fixture
def make_run(settings: dict[str, Any]) -> Callable[..., TrainConfig]:
    """The configuration of the run, with other values for some dotted keys."""

    def make(**changes: Any) -> TrainConfig:
        changed: dict[str, Any] = json.loads(json.dumps(settings))
        for key, value in changes.items():
            *way, last = key.split("__")
            place = changed
            for name in way:
                place = place.setdefault(name, {})
            place[last] = value
        return TrainConfig.model_validate(changed)

    return make
