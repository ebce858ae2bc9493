"""The shorter way to a token says what the library's own says."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, cpu_decoding
from mgem_agent.core_model.cpu_decoding import CpuDecoding, enable_cpu_decoding
from mgem_agent.core_model.cpu_products import grid_product, has_kernels
from mgem_agent.core_model.cpu_step import Step

HAS_KERNELS = has_kernels()


@pytest.fixture(autouse=True)
def copies_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make copies from the first token on."""
    monkeypatch.setattr(cpu_decoding, "TOKENS_BEFORE_COPIES", 0)


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
    return model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **{**settings, **options})


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
    step = Step.__call__

    def counted(self: Any, *args: Any) -> Tensor:
        steps.append(1)
        return step(self, *args)

    monkeypatch.setattr(Step, "__call__", counted)
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
    way = enable_cpu_decoding(model, check=False)
    assert isinstance(way, CpuDecoding) and not way.exact
    weight = trunk.layers[0].mlp.down_proj.weight.detach()
    assert (grid_product(weight) is not None) == is_on_grid
    found = answer(model, return_dict_in_generate=True, output_logits=True)
    scores, ideal = found.logits[1], wanted.logits[1]
    assert (scores - ideal).abs().max() < 0.05 * ideal.abs().max()
    assert not torch.equal(scores, ideal), "these are other numbers"


def is_answered_in_few_passes(model: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Tensor, list[int]]:
    """Return a long answer of a model with guesses, and the number of tokens in each exact pass."""
    passes: list[int] = []
    step = Step.__call__

    def counted(self: Any, embedded: Tensor, *args: Any) -> Tensor:
        passes.append(len(embedded))
        return step(self, embedded, *args)

    monkeypatch.setattr(Step, "__call__", counted)
    return answer(model, **{"max_new_tokens": 40, "min_new_tokens": 40, **options}), passes


@pytest.mark.skipif(not HAS_KERNELS, reason="this processor has no such kernels")
@pytest.mark.parametrize("is_half", [True, False])
@pytest.mark.parametrize("options", [{}, {"no_repeat_ngram_size": 2}])
def test_checked_guesses_say_the_same(
    model: MiniGeminiForConditionalGeneration, monkeypatch: pytest.MonkeyPatch, is_half: bool, options: Any
) -> None:
    if is_half:
        model.half().float()
    wanted = answer(model, max_new_tokens=40, min_new_tokens=40, **options)
    way = enable_cpu_decoding(model)
    assert way is not None
    found, passes = is_answered_in_few_passes(model, monkeypatch, **options)
    assert torch.equal(found, wanted)
    assert max(passes) > 1, "several tokens are checked at once"
    again = answer(model, max_new_tokens=40, min_new_tokens=40, **options)
    assert torch.equal(again, wanted), "also with the copies of another answer"


@pytest.mark.skipif(not HAS_KERNELS, reason="this processor has no such kernels")
def test_short_answers_make_no_copies(
    model: MiniGeminiForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_decoding, "TOKENS_BEFORE_COPIES", 12)
    made = []
    product = cpu_decoding.four_bit_product
    monkeypatch.setattr(cpu_decoding, "four_bit_product", lambda weight: made.append(1) or product(weight))
    enable_cpu_decoding(model)
    answer(model)
    assert not made
    answer(model)
    assert made, "the process is no short command"


@pytest.mark.skipif(not HAS_KERNELS, reason="this processor has no such kernels")
def test_sampling_with_guesses_draws_from_the_same_scores(model: MiniGeminiForConditionalGeneration) -> None:
    options = {"do_sample": True, "max_new_tokens": 40, "min_new_tokens": 40, "temperature": 0.7}
    torch.manual_seed(3)
    wanted = answer(model, **options)
    enable_cpu_decoding(model)
    for _ in range(2):
        torch.manual_seed(3)
        assert torch.equal(answer(model, **options), wanted)


@pytest.mark.skipif(not HAS_KERNELS, reason="this processor has no such kernels")
def test_a_cache_never_shows_guesses(model: MiniGeminiForConditionalGeneration) -> None:
    way = enable_cpu_decoding(model)
    assert way is not None
    answer(model, max_new_tokens=12)  # makes the copies
    cache = DynamicCache(config=model.config.text_config)
    ids = torch.tensor([[5, 9, 2, 40, 7]])
    with torch.no_grad():
        model(input_ids=ids[:, :2], cache=cache, use_cache=True)
        for place in (2, 3, 4):
            found = model(input_ids=ids[:, place : place + 1], cache=cache, use_cache=True).logits[0, -1]
            assert cache.get_seq_length() == place + 1
        cache.crop(-2)
        twin = copy.deepcopy(cache)
        model(input_ids=torch.tensor([[11]]), cache=cache, use_cache=True)
        for place in (3, 4):
            again = model(input_ids=ids[:, place : place + 1], cache=twin, use_cache=True).logits[0, -1]
        way.remove()
        wanted = model(input_ids=ids).logits[0, -1]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(again, wanted, atol=1e-5, rtol=1e-4)


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
