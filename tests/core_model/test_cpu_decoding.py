"""Compiled decoding with packed weights gives the tokens of the library's own."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, cpu_decoding
from mgem_agent.core_model.cpu_decoding import CpuDecoding, TokenRunner, enable_cpu_decoding, pack_for_decoding
from mgem_agent.core_model.packed_weights import Format, PackedWeights, pack
from mgem_agent.errors import CheckpointError

MakeModel = Callable[..., MiniGeminiForConditionalGeneration]
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
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


def ready(model: MiniGeminiForConditionalGeneration) -> CpuDecoding:
    way = enable_cpu_decoding(model)
    assert way is not None
    way.prepare()
    return way


def on_grid(weight: Tensor) -> Tensor:
    """Round to 16 steps of float16 for each 32 neighbours, as a file of type Q4_1 has them."""
    groups = weight.view(len(weight), -1, 32)
    low, high = groups.aminmax(dim=-1, keepdim=True)
    step, low = ((high - low) / 15).half().float(), low.half().float()
    return (((groups - low) / step).round().clamp(0, 15) * step + low).view_as(weight)


def in_bytes(weight: Tensor) -> Tensor:
    """Round to 255 steps of float16 for each 32 neighbours, as a file of type Q8_0 has them."""
    groups = weight.view(len(weight), -1, 32)
    step = (groups.abs().amax(-1, keepdim=True) / 127).half().float()
    return ((groups / step).round() * step).view_as(weight)


def in_brain(weight: Tensor) -> Tensor:
    """Round to bfloat16; the first weight is too small for float16."""
    rounded = weight.bfloat16().float()
    rounded[0, 0] = 2.0**-30
    return rounded


ROUNDINGS: dict[Format, Callable[[Tensor], Tensor]] = {
    Format.GRID: on_grid,
    Format.BYTES: in_bytes,
    Format.HALF: lambda weight: weight.half().float(),
    Format.BRAIN: in_brain,
    Format.FLOAT: lambda weight: weight,
}


@pytest.mark.parametrize("kind", list(Format))
def test_every_format_gives_the_same_scores(model: MiniGeminiForConditionalGeneration, kind: Format) -> None:
    for linear in (*model.model.language_model.modules(), model.lm_head):
        if isinstance(linear, torch.nn.Linear):
            linear.weight.data = ROUNDINGS[kind](linear.weight.data)
    options = {"return_dict_in_generate": True, "output_logits": True}
    wanted = answer(model, **options)
    way = ready(model)
    assert set(way.formats()) == {kind}
    found = answer(model, **options)
    assert torch.equal(found.sequences, wanted.sequences)
    torch.testing.assert_close(torch.cat(found.logits), torch.cat(wanted.logits), atol=1e-5, rtol=1e-4)
    way.remove()
    assert "forward" not in model.model.language_model.__dict__ and "forward" not in model.lm_head.__dict__


def test_adapters_are_added_without_merging(model: MiniGeminiForConditionalGeneration, tmp_path: Path) -> None:
    trunk: Any = model.model.language_model
    adapters = {}
    for place, layer in enumerate(trunk.layers):
        for name in ("self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"):
            linear = layer.get_submodule(name)
            linear.weight.data = on_grid(linear.weight.data)
            rows, width = linear.weight.shape
            adapters[f"layers.{place}.{name}"] = (torch.randn(3, width) / 8, torch.randn(rows, 3) / 8)
    pack(trunk, model.lm_head.weight.detach(), adapters).save(tmp_path / "packed.safetensors")
    for name, (first, second) in adapters.items():
        trunk.get_submodule(name).weight.data += second @ first
    options = {"return_dict_in_generate": True, "output_logits": True}
    wanted = answer(model, **options)
    way = enable_cpu_decoding(model, tmp_path / "packed.safetensors")
    assert way is not None
    way.prepare()
    found = answer(model, **options)
    torch.testing.assert_close(torch.cat(found.logits), torch.cat(wanted.logits), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_share_a_token(model: MiniGeminiForConditionalGeneration, threads: int) -> None:
    before = torch.get_num_threads()
    wanted = answer(model)
    torch.set_num_threads(threads)
    try:
        ready(model)
        assert torch.equal(answer(model), wanted)
    finally:
        torch.set_num_threads(before)


def test_several_answers_at_once(model: MiniGeminiForConditionalGeneration) -> None:
    prompts = [torch.tensor([[5, 9, 2, place]]) for place in range(6)]
    options = {"do_sample": False, "max_new_tokens": 30, "min_new_tokens": 30, "pad_token_id": 0}
    wanted = [model.generate(input_ids=ids, **options) for ids in prompts]
    ready(model)
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda ids: model.generate(input_ids=ids, **options), prompts))
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_only_single_tokens_are_ours(
    model: MiniGeminiForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = []
    run = TokenRunner.__call__

    def counted(self: Any, *args: Any) -> Any:
        tokens.append(1)
        return run(self, *args)

    monkeypatch.setattr(TokenRunner, "__call__", counted)
    ready(model)
    answer(model)
    assert len(tokens) == 11, "the first token comes of reading the prompt"
    answer(model, num_beams=2)
    answer(model, output_hidden_states=True, return_dict_in_generate=True)
    model(input_ids=torch.tensor([[1]]))
    assert len(tokens) == 11, "everything else is the library's"


@pytest.mark.parametrize("options", [{"no_repeat_ngram_size": 2}, {"do_sample": True, "temperature": 0.7}])
def test_options_of_generate_work(model: MiniGeminiForConditionalGeneration, options: Any) -> None:
    long = {"max_new_tokens": 90, "min_new_tokens": 90, **options}  # longer than the room behind a cache
    torch.manual_seed(3)
    wanted = answer(model, **long)
    ready(model)
    torch.manual_seed(3)
    assert torch.equal(answer(model, **long), wanted)


def test_a_cache_may_be_cropped_and_copied(model: MiniGeminiForConditionalGeneration) -> None:
    way = ready(model)
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


def test_short_answers_pack_nothing(model: MiniGeminiForConditionalGeneration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_decoding, "TOKENS_BEFORE_PACKING", 12)
    way = enable_cpu_decoding(model)
    assert way is not None
    wanted = answer(model)
    assert way.preparation is None and not way.is_ready
    assert torch.equal(answer(model), wanted)
    assert way.preparation is not None, "the process is no short command"
    way.preparation.join()
    assert way.is_ready
    assert torch.equal(answer(model), wanted)


def test_a_file_of_another_model_is_refused(
    model: MiniGeminiForConditionalGeneration, make_model: MakeModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "packed.safetensors"
    other: Any = make_model(**{**SIZES, "hidden_size": 128})
    pack(other.model.language_model, other.lm_head.weight.detach()).save(place)
    way = enable_cpu_decoding(model, place)
    assert way is not None
    with pytest.raises(CheckpointError, match=r"^The packed weights belong to another language model\. Delete"):
        way.prepare()
    place.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"^The packed weights '.*packed\.safetensors' cannot be read: "):
        way.prepare()
    with caplog.at_level(logging.WARNING), pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_decoding, "TOKENS_BEFORE_PACKING", 0)
        answer(model)
        assert way.preparation is not None
        way.preparation.join()
    assert "Fast decoding is not available; answers are the same, but slower." in caplog.messages


def test_a_language_model_is_packed_into_a_file(model: MiniGeminiForConditionalGeneration, tmp_path: Path) -> None:
    class Causal:
        model: Any = None

        def get_output_embeddings(self) -> Any:
            return head

    head = model.lm_head
    Causal.model = model.model.language_model
    pack_for_decoding(Causal(), tmp_path / "packed.safetensors")
    assert len(PackedWeights.load(tmp_path / "packed.safetensors").table) == 4 * len(Causal.model.layers) + 1


@pytest.mark.parametrize("family", ["gemma", "mistral", "qwen2"])
def test_other_families_are_left_alone(make_model: MakeModel, family: str) -> None:
    other = make_model(family)
    assert enable_cpu_decoding(other) is None
    assert "forward" not in other.model.language_model.__dict__


def test_other_number_formats_and_sizes_are_left_alone(make_model: MakeModel) -> None:
    assert enable_cpu_decoding(make_model(**SIZES).bfloat16()) is None
    assert enable_cpu_decoding(make_model(**{**SIZES, "intermediate_size": 100})) is None
