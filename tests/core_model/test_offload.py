"""A model whose weights are spread over devices says what it says in one place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from torch import Tensor, nn

from mgem_agent.core_model import MiniGeminiForConditionalGeneration
from mgem_agent.core_model.offload import keep_resident


@pytest.fixture(scope="module")
def folder(
    make_model: Callable[..., MiniGeminiForConditionalGeneration], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    make_model().save_pretrained(path)
    return path


@pytest.fixture
def inputs() -> dict[str, Tensor]:
    return {
        "input_ids": torch.tensor([[1, 5, *[100] * 16, 7, 8, 9]]),
        "pixel_values": torch.randn(1, 3, 28, 28),
        "high_res_pixel_values": torch.randn(1, 3, 64, 64),
    }


def load(path: Path, **options: Any) -> Any:
    return MiniGeminiForConditionalGeneration.from_pretrained(str(path), **options)


@torch.no_grad()
def logits(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    scored: Tensor = model(**inputs).logits
    return scored


def test_weights_on_several_devices_say_the_same(folder: Path, inputs: dict[str, Tensor], tmp_path: Path) -> None:
    expected = logits(load(folder), inputs)
    assert torch.equal(logits(load(folder, device_map="auto"), inputs), expected)
    device_map = {
        "model.vision_tower": "disk",
        "model.high_res_vision_tower": "cpu",
        "model.mining": "disk",
        "model.multi_modal_projector": "disk",
        "model.language_model.embed_tokens": "disk",
        "model.language_model.layers.0": "cpu",
        "model.language_model.layers.1": "disk",
        "model.language_model.norm": "cpu",
        "model.language_model.rotary_emb": "cpu",
        "lm_head": "disk",
    }
    offloaded = load(folder, device_map=device_map, offload_folder=tmp_path)
    assert offloaded.lm_head.weight.is_meta
    assert not any(weight.is_meta for weight in offloaded.model.mining.parameters())
    assert torch.equal(logits(offloaded, inputs), expected)
    options = {"attention_mask": torch.ones_like(inputs["input_ids"]), "max_new_tokens": 4, "pad_token_id": 0}
    assert torch.equal(offloaded.generate(**inputs, **options), load(folder).generate(**inputs, **options))


def test_weights_that_are_read_without_a_call_are_brought_once() -> None:
    module = nn.ModuleDict({"read": nn.Linear(2, 3), "called": nn.Linear(2, 3)})
    expected = {name: parameter.clone() for name, parameter in module.named_parameters()}
    cpu_offload(module)
    assert all(parameter.is_meta for parameter in module.parameters())
    keep_resident(module["read"])
    keep_resident(nn.Linear(1, 1))  # nothing to do
    assert torch.equal(module["read"].weight, expected["read.weight"])
    module["called"](torch.ones(2))
    module["read"](torch.ones(2))
    assert module["called"].weight.is_meta
    assert not module["read"].weight.is_meta
