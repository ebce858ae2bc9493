"""Fewer bits for the language model alone, and the number format of a device."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, GPTQConfig, QuantoConfig, TorchAoConfig

from mgem_agent.core_model import MiniGeminiForConditionalGeneration
from mgem_agent.core_model import quantization as module
from mgem_agent.core_model.quantization import (
    loading_options,
    protect_vision,
    quantization_config,
)
from mgem_agent.errors import InputError, MissingDependencyError

VISION = ["vision_tower", "high_res_vision_tower", "mining", "multi_modal_projector", "reader"]
ALONE = [*(f"model.{name}" for name in VISION), *VISION, "lm_head"]


@pytest.fixture(scope="module")
def folder(
    make_model: Callable[..., MiniGeminiForConditionalGeneration], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A saved model whose linear layers have the multiples of 64 columns that blocks of 4 bits need."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    make_model(hidden_size=64, intermediate_size=128).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "input_ids": torch.tensor([[1, 5, *[100] * 16, 7, 8, 9]]),
        "pixel_values": torch.randn(1, 3, 28, 28, generator=generator),
        "high_res_pixel_values": torch.randn(1, 3, 64, 64, generator=generator),
    }


def load(path: Path, **options: Any) -> Any:
    return MiniGeminiForConditionalGeneration.from_pretrained(str(path), **options)


@torch.no_grad()
def logits(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    scored: Tensor = model(**inputs).logits
    return scored


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def is_plain(layer: Any) -> bool:
    return type(layer) is nn.Linear and type(layer.weight) is nn.Parameter and type(layer.weight.data) is Tensor


CONFIGURATIONS = {
    "torchao, 8 bits": lambda: quantization_config(8, "torchao"),
    "bitsandbytes, 8 bits": lambda: quantization_config(8, "bitsandbytes"),
    "bitsandbytes, 4 bits": lambda: quantization_config(4, bnb_4bit_compute_dtype=torch.float32),
}


@pytest.mark.usefixtures("no_packed_kernel")
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_only_the_language_model_has_fewer_bits(
    folder: Path, inputs: dict[str, Tensor], tmp_path: Path, name: str
) -> None:
    plain = load(folder)
    model = load(folder, quantization_config=CONFIGURATIONS[name](), dtype=torch.float32)
    layers = linear_layers(model)
    assert {key for key, layer in layers.items() if is_plain(layer)} == {
        key for key in layers if not key.startswith("model.language_model.")
    }
    features = [
        each.get_image_features(inputs["pixel_values"], inputs["high_res_pixel_values"]) for each in (plain, model)
    ]
    assert torch.equal(*(each.pooler_output[0] for each in features))
    expected, got = logits(plain, inputs), logits(model, inputs)
    assert not torch.equal(got, expected)
    error = ((got - expected).norm() / expected.norm()).item()
    assert error < (0.3 if "4 bits" in name else 0.05)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(load(tmp_path), inputs), got)


def test_what_is_chosen_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(quantization_config(8), TorchAoConfig)
    four = quantization_config(4)
    assert isinstance(four, BitsAndBytesConfig)
    assert (four.load_in_4bit, four.bnb_4bit_quant_type, four.llm_int8_skip_modules) == (True, "nf4", ALONE)
    assert quantization_config(4, bnb_4bit_quant_type="fp4").to_dict()["bnb_4bit_quant_type"] == "fp4"

    missing = {"torchao"}
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find_spec(name))
    assert isinstance(quantization_config(8), BitsAndBytesConfig)
    missing.add("bitsandbytes")
    for bits, package in ((8, "torchao"), (4, "bitsandbytes")):
        message = f"^A model in {bits} bits needs the package '{package}'. Run: pip install 'mgem-agent.quantization.'$"
        with pytest.raises(MissingDependencyError, match=message):
            quantization_config(bits)  # type: ignore[arg-type]


def test_refuses_other_bits_and_libraries() -> None:
    with pytest.raises(InputError, match=r"^Weights can have 8 or 4 bits, got 2\.$"):
        quantization_config(2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^4 bits are supported by 'bitsandbytes', not by 'torchao'\.$"):
        quantization_config(4, "torchao")


def test_protection_adds_to_what_is_there() -> None:
    assert protect_vision(None) is None
    given = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["mine", "lm_head"])
    protected = protect_vision(given)
    assert protected.llm_int8_skip_modules == ["mine", "lm_head", *ALONE[:-1]]
    assert given.llm_int8_skip_modules == ["mine", "lm_head"]
    assert protect_vision(protected).llm_int8_skip_modules == protected.llm_int8_skip_modules
    assert protect_vision(QuantoConfig()).modules_to_not_convert == ALONE
    from_dictionary = protect_vision({"quant_method": "bitsandbytes", "load_in_4bit": True})
    assert isinstance(from_dictionary, BitsAndBytesConfig)
    assert from_dictionary.llm_int8_skip_modules == ALONE
    untouched = GPTQConfig(bits=4)
    assert protect_vision(untouched).to_dict() == untouched.to_dict()


@pytest.mark.parametrize(
    ("has_gpu", "given", "kind"),
    [
        (True, {}, "cuda"),
        (False, {}, "cpu"),
        (True, {"device_map": "cpu"}, "cpu"),
        (True, {"device_map": {"model": 0}}, "cuda"),
        (True, {"device_map": "balanced"}, "cuda"),
        (False, {"device_map": "auto"}, "cpu"),
        (False, {"device_map": torch.device("mps")}, "mps"),
    ],
)
def test_the_dtype_of_loading_is_that_of_the_device(
    monkeypatch: pytest.MonkeyPatch, has_gpu: bool, given: dict[str, Any], kind: str
) -> None:
    formats = {"cpu": torch.float32, "cuda": torch.float16, "mps": torch.bfloat16}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(module, "default_dtype", lambda device: formats[device])
    assert loading_options(given)["dtype"] is formats[kind]
    assert loading_options({**given, "dtype": torch.float64})["dtype"] is torch.float64
