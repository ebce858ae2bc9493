"""The shorter way to a token says what the library's own says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, cpu_decoding
from mgem_agent.core_model.cpu_decoding import CpuDecoding, enable_cpu_decoding

HAS_KERNELS = cpu_decoding._has_kernels()  # pyright: ignore[reportPrivateUsage]

MakeModel = Callable[..., MiniGeminiForConditionalGeneration]
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.fixture
def model(make_model: MakeModel) -> MiniGeminiForConditionalGeneration:
    torch.manual_seed(0)
    return make_model(**SIZES)


def answer(model: Any, **options: Any) -> Any:
    ids = torch.tensor([[5, 9, 2, 40, 7]])
    settings = {"do_sample": False, "max_new_tokens": 12, "min_new_tokens": 12, "pad_token_id": 0}
    return model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings, **options)


def test_exact_says_the_same(model: MiniGeminiForConditionalGeneration) -> None:
    wanted = answer(model, return_dict_in_generate=True, output_logits=True)
    way = enable_cpu_decoding(model, exact=True)
    assert way is not None and way.exact
    found = answer(model, return_dict_in_generate=True, output_logits=True)
    assert torch.equal(found.sequences, wanted.sequences)
    torch.testing.assert_close(torch.cat(found.logits), torch.cat(wanted.logits), atol=1e-5, rtol=1e-4)
    way.remove()
    assert "forward" not in model.model.language_model.__dict__ and "forward" not in model.lm_head.__dict__


def test_it_is_what_writes(model: MiniGeminiForConditionalGeneration, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    step = cpu_decoding._Step.__call__  # pyright: ignore[reportPrivateUsage]

    def counted(self: Any, *args: Any) -> Tensor:
        steps.append(1)
        return step(self, *args)

    monkeypatch.setattr(cpu_decoding._Step, "__call__", counted)  # pyright: ignore[reportPrivateUsage]
    enable_cpu_decoding(model, exact=True)
    answer(model)
    assert len(steps) == 11, "the first token comes of reading the prompt"
    answer(model, num_beams=2)
    answer(model, output_hidden_states=True, return_dict_in_generate=True)
    model(input_ids=torch.tensor([[1]]))
    assert len(steps) == 11, "all else is the library's"


def on_grid(weight: Tensor) -> Tensor:
    """Round to 16 steps for each 32 neighbours, as a file of the kind Q4_1 has them."""
    groups = weight.view(len(weight), -1, 32)
    low, high = groups.aminmax(dim=-1, keepdim=True)
    step = (high - low) / 15
    return (((groups - low) / step).round() * step + low).view_as(weight)


@pytest.mark.skipif(not HAS_KERNELS, reason="this processor has no such kernels")
@pytest.mark.parametrize("is_on_grid", [True, False])
def test_fewer_bits_say_nearly_the_same(model: MiniGeminiForConditionalGeneration, is_on_grid: bool) -> None:
    trunk: Any = model.model.language_model
    if is_on_grid:
        for layer in trunk.layers:
            for linear in layer.modules():
                if isinstance(linear, torch.nn.Linear):
                    linear.weight.data = on_grid(linear.weight.data)
    wanted = answer(model, return_dict_in_generate=True, output_logits=True)
    way = enable_cpu_decoding(model)
    assert isinstance(way, CpuDecoding) and not way.exact
    weight = trunk.layers[0].mlp.down_proj.weight.detach()
    assert (cpu_decoding._in_four_bits(weight) is not None) == is_on_grid  # pyright: ignore[reportPrivateUsage]
    found = answer(model, return_dict_in_generate=True, output_logits=True)
    scores, ideal = found.logits[1], wanted.logits[1]
    assert (scores - ideal).abs().max() < 0.05 * ideal.abs().max()
    assert not torch.equal(scores, ideal), "these are other numbers"


@pytest.mark.skipif(not HAS_KERNELS, reason="this processor has no such kernels")
def test_each_product_is_that_of_its_matrix() -> None:
    torch.manual_seed(0)
    weight, hidden = torch.randn(32, 64), torch.randn(1, 64)
    grid = on_grid(weight)
    four = cpu_decoding._in_four_bits(grid)  # pyright: ignore[reportPrivateUsage]
    eight = cpu_decoding._in_eight_bits(weight)  # pyright: ignore[reportPrivateUsage]
    assert four is not None
    for found, wanted in ((four(hidden), hidden @ grid.T), (eight(hidden), hidden @ weight.T)):
        assert found.dtype == torch.float32
        assert (found - wanted).norm() < 0.02 * wanted.norm()


@pytest.mark.parametrize("family", ["gemma", "mistral", "qwen2"])
def test_other_families_are_left_alone(make_model: MakeModel, family: str) -> None:
    other = make_model(family)
    assert enable_cpu_decoding(other) is None
    assert "forward" not in other.model.language_model.__dict__


def test_other_number_formats_are_left_alone(make_model: MakeModel) -> None:
    assert enable_cpu_decoding(make_model(**SIZES).bfloat16()) is None


def test_a_machine_without_the_kernels_is_exact(
    model: MiniGeminiForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    way = enable_cpu_decoding(model)
    assert way is not None and way.exact
