"""Folders in the authors' layout become the model that their tensors say."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, MixtralConfig, MixtralForCausalLM

from mgem_agent.core_model import MiniGeminiForConditionalGeneration
from mgem_agent.errors import CheckpointError

Tensors = dict[str, torch.Tensor]

# Where each of the authors' names goes, said again by hand for one of every kind.
RENAMED = {
    "lm_head.weight": "lm_head.weight",
    "model.embed_tokens.weight": "model.language_model.embed_tokens.weight",
    "model.norm.weight": "model.language_model.norm.weight",
    "model.layers.1.self_attn.k_proj.weight": "model.language_model.layers.1.self_attn.k_proj.weight",
    "model.mm_projector.0.bias": "model.multi_modal_projector.0.bias",
    "model.mm_projector.2.weight": "model.multi_modal_projector.2.weight",
    "model.vlm_uni_query_projector.0.weight": "model.mining.query_norm.weight",
    "model.vlm_uni_query_projector.1.bias": "model.mining.query_proj.bias",
    "model.vlm_uni_aux_projector.0.bias": "model.mining.key_norm.bias",
    "model.vlm_uni_aux_projector.1.weight": "model.mining.key_proj.weight",
    "model.vlm_uni_val_projector.0.weight": "model.mining.value_norm.weight",
    "model.vlm_uni_val_projector.1.weight": "model.mining.value_proj.weight",
    "model.vision_tower.vision_tower.vision_model.pre_layrnorm.weight": "model.vision_tower.pre_layrnorm.weight",
    "model.vision_tower.vision_tower.vision_model.encoder.layers.1.mlp.fc1.weight": (
        "model.vision_tower.encoder.layers.1.mlp.fc1.weight"
    ),
    "model.vision_tower_aux.vision_stem.1.bias": "model.high_res_vision_tower.stem.1.bias",
    "model.vision_tower_aux.vision_stages.2.blocks.1.gamma": "model.high_res_vision_tower.stages.2.blocks.1.gamma",
    "model.vision_tower_aux.vision_stages.1.downsample.1.weight": (
        "model.high_res_vision_tower.stages.1.downsample.1.weight"
    ),
    "model.vision_tower_aux.vision_stages.3.blocks.0.mlp.fc1.weight": (
        "model.high_res_vision_tower.stages.3.blocks.0.mlp.fc1.weight"
    ),
}


def logits_of(model: MiniGeminiForConditionalGeneration) -> torch.Tensor:
    """Scores of a fixed prompt with one image.

    The weights are moved to memory of their own: how numbers are summed depends on where tensors begin, which in a file
    that is mapped into memory is anywhere.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    generator = torch.Generator().manual_seed(1)
    prompt = torch.tensor([[1, 5] + [100] * 16 + [9, 7]])
    pixels = torch.randn(1, 3, 28, 28, generator=generator)
    high_res = torch.randn(1, 3, 64, 64, generator=generator)
    with torch.no_grad():
        return model(input_ids=prompt, pixel_values=pixels, high_res_pixel_values=high_res).logits


@pytest.mark.parametrize(
    ("family", "form", "num_shards"),
    [
        ("llama", "safetensors", 1),
        ("llama", "bin", 3),
        ("gemma", "safetensors", 2),
        ("mistral", "bin", 1),
        ("mixtral", "safetensors", 3),
        ("mixtral", "bin", 1),
    ],
)
def test_every_tensor_of_an_official_folder_lands_in_its_place(
    family: str,
    form: str,
    num_shards: int,
    folder: Any,
    tiny_config: Callable[..., dict[str, Any]],
    tiny_tensors: Callable[..., Tensors],
    tmp_path: Path,
) -> None:
    tensors = tiny_tensors(family)
    folder.write_config(tiny_config(family))
    folder.write(tensors, form=form, num_shards=num_shards)

    model, info = MiniGeminiForConditionalGeneration.from_pretrained(folder.path, output_loading_info=True)
    assert not (info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"])
    loaded = model.state_dict()
    for theirs, ours in RENAMED.items():
        torch.testing.assert_close(loaded[ours], tensors[theirs], rtol=0, atol=0)
    # Nothing was left at its initial value: together the loaded numbers are the written ones, each once.
    total = sum(value.double().sum() for value in loaded.values())
    torch.testing.assert_close(total, sum(value.double().sum() for value in tensors.values()))

    before = logits_of(model)
    assert before.isfinite().all()
    model.save_pretrained(tmp_path / "saved", max_shard_size="20KB")
    index = json.loads((tmp_path / "saved" / "model.safetensors.index.json").read_text())["weight_map"]
    assert not [key for key in index if "mm_projector" in key or "vlm_uni" in key or "vision_tower_aux" in key]
    assert {"model.mining.key_norm.bias", "model.language_model.norm.weight"} <= set(index)
    again = MiniGeminiForConditionalGeneration.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(logits_of(again), before, rtol=0, atol=0)


def test_mixtral_experts_are_those_of_the_language_model_alone(
    folder: Any, tiny_config: Callable[..., dict[str, Any]], tiny_tensors: Callable[..., Tensors]
) -> None:
    tensors = tiny_tensors("mixtral")
    folder.write_config(tiny_config("mixtral"))
    folder.write(tensors, num_shards=2)
    model = MiniGeminiForConditionalGeneration.from_pretrained(folder.path)

    text = model.config.text_config.to_dict()
    alone = MixtralForCausalLM(MixtralConfig(**text)).eval()
    state = {key: tensors[key] for key in tensors if key in alone.state_dict()}
    for layer in range(2):
        experts = [f"model.layers.{layer}.block_sparse_moe.experts.{expert}" for expert in range(4)]
        state[f"model.layers.{layer}.mlp.gate.weight"] = tensors[f"model.layers.{layer}.block_sparse_moe.gate.weight"]
        state[f"model.layers.{layer}.mlp.experts.gate_up_proj"] = torch.stack(
            [torch.cat([tensors[f"{expert}.w1.weight"], tensors[f"{expert}.w3.weight"]]) for expert in experts]
        )
        state[f"model.layers.{layer}.mlp.experts.down_proj"] = torch.stack(
            [tensors[f"{expert}.w2.weight"] for expert in experts]
        )
    alone.load_state_dict(state)
    prompt = torch.tensor([[1, 5, 9, 7, 3]])
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=prompt).logits, alone(input_ids=prompt).logits, rtol=0, atol=1e-6)


def test_a_head_equal_to_the_embedding_is_tied(
    folder: Any, tiny_config: Callable[..., dict[str, Any]], tiny_tensors: Callable[..., Tensors]
) -> None:
    tensors = tiny_tensors("gemma")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    folder.write_config(tiny_config("gemma"))
    folder.write(tensors)
    model = MiniGeminiForConditionalGeneration.from_pretrained(folder.path)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.config.tie_word_embeddings is True


def test_a_head_unlike_the_embedding_is_kept_apart_with_a_warning(
    folder: Any,
    tiny_config: Callable[..., dict[str, Any]],
    tiny_tensors: Callable[..., Tensors],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tensors = tiny_tensors("gemma")
    folder.write_config(tiny_config("gemma"))
    folder.write(tensors)
    with caplog.at_level(logging.WARNING):
        model = MiniGeminiForConditionalGeneration.from_pretrained(folder.path)
    assert [record.getMessage() for record in caplog.records] == [
        "The checkpoint stores a head that differs from the embedding, although its configuration ties them. "
        "Both are kept: tie_word_embeddings is now false."
    ]
    torch.testing.assert_close(model.lm_head.weight, tensors["lm_head.weight"])
    assert model.config.tie_word_embeddings is model.config.text_config.tie_word_embeddings is False

    model.save_pretrained(tmp_path / "saved")
    caplog.clear()
    again = MiniGeminiForConditionalGeneration.from_pretrained(tmp_path / "saved")
    assert not caplog.records
    torch.testing.assert_close(again.lm_head.weight, tensors["lm_head.weight"])


def test_leftovers_of_older_versions_are_no_error(
    folder: Any, tiny_config: Callable[..., dict[str, Any]], tiny_tensors: Callable[..., Tensors]
) -> None:
    tensors = tiny_tensors()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    tensors["model.vision_tower.vision_tower.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    folder.write_config(tiny_config())
    folder.write(tensors)
    _, info = MiniGeminiForConditionalGeneration.from_pretrained(folder.path, output_loading_info=True)
    assert info["unexpected_keys"] == set()


def test_what_does_not_fit_is_listed(
    folder: Any, tiny_config: Callable[..., dict[str, Any]], tiny_tensors: Callable[..., Tensors]
) -> None:
    tensors = tiny_tensors()
    tensors["model.mm_projector.1.weight"] = tensors.pop("model.mm_projector.0.weight")
    tensors["model.norm.weight"] = torch.ones(31)
    folder.write_config(tiny_config())
    folder.write(tensors)
    with pytest.raises(CheckpointError) as caught:
        MiniGeminiForConditionalGeneration.from_pretrained(folder.path)
    assert str(caught.value) == (
        f"The weights of {str(folder.path)!r} do not fit MiniGeminiForConditionalGeneration as its configuration "
        f"describes it. Look at it with: mgem models check {folder.path}\n"
        "1 missing:\n  model.multi_modal_projector.0.weight\n"
        "1 unexpected:\n  model.multi_modal_projector.1.weight\n"
        "1 with a wrong shape:\n  model.language_model.norm.weight: (31,) in the checkpoint, (32,) in the model"
    )
    assert caught.value.missing == ("model.multi_modal_projector.0.weight",)


def test_a_missing_expert_is_an_error(
    folder: Any, tiny_config: Callable[..., dict[str, Any]], tiny_tensors: Callable[..., Tensors]
) -> None:
    tensors = tiny_tensors("mixtral")
    del tensors["model.layers.1.block_sparse_moe.experts.2.w1.weight"]
    folder.write_config(tiny_config("mixtral"))
    folder.write(tensors)
    with pytest.raises(CheckpointError, match="a layer lacks some of its experts|do not fit"):
        MiniGeminiForConditionalGeneration.from_pretrained(folder.path)


def test_our_own_format_is_as_strict(make_model: Callable[..., Any], tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    del tensors["model.mining.key_proj.bias"]
    with pytest.raises(
        CheckpointError,
        match=r"^The weights of the given state_dict do (.|\n)*\n1 missing:\n  model\.mining\.key_proj\.bias$",
    ):
        MiniGeminiForConditionalGeneration.from_pretrained(None, config=make_model().config, state_dict=tensors)


def test_options_of_transformers_mean_what_they_do_there(
    folder: Any, tiny_config: Callable[..., dict[str, Any]], tiny_tensors: Callable[..., Tensors]
) -> None:
    tensors = tiny_tensors()
    folder.write_config(tiny_config(architectures=None, model_type="mini_gemini"))
    folder.write(tensors)
    model = AutoModelForImageTextToText.from_pretrained(folder.path, dtype=torch.bfloat16, device_map="cpu")
    assert isinstance(model, MiniGeminiForConditionalGeneration)
    assert {value.dtype for value in model.parameters()} == {torch.bfloat16}

    by_state = MiniGeminiForConditionalGeneration.from_pretrained(None, config=model.config, state_dict=dict(tensors))
    assert torch.equal(by_state.lm_head.weight, tensors["lm_head.weight"].to(by_state.dtype))

    tensors["lm_head.weight"] = torch.ones(99, 32)
    folder.write(tensors)
    model, info = MiniGeminiForConditionalGeneration.from_pretrained(
        folder.path, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert [key for key, *_ in info["mismatched_keys"]] == ["lm_head.weight"]
    assert model.lm_head.weight.shape == (100, 32)


def test_sampling_options_without_effect_do_not_stop_saving(
    folder: Any,
    tiny_config: Callable[..., dict[str, Any]],
    tiny_tensors: Callable[..., Tensors],
    tmp_path: Path,
) -> None:
    folder.write_config(tiny_config())
    folder.write(tiny_tensors())
    vicuna = {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "max_length": 4096,
        "temperature": 0.9,
        "top_p": 0.6,
    }
    (folder.path / "generation_config.json").write_text(json.dumps(vicuna))
    model = MiniGeminiForConditionalGeneration.from_pretrained(folder.path)
    model.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert "temperature" not in saved and saved["pad_token_id"] == 0

    sampled = {"do_sample": True, "temperature": 0.6, "top_p": 0.9}
    (folder.path / "generation_config.json").write_text(json.dumps(sampled))
    model = MiniGeminiForConditionalGeneration.from_pretrained(folder.path)
    assert (model.generation_config.temperature, model.generation_config.top_p) == (0.6, 0.9)


class Trap:
    """Unpickling this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickle_that_wants_to_run_code_is_refused(
    folder: Any, tiny_config: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    folder.write_config(tiny_config())
    trace = tmp_path / "ran"
    for save in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))):
        save({"lm_head.weight": Trap(trace)}, folder.path / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match="contains objects other than tensors. Reading them could run code"):
            MiniGeminiForConditionalGeneration.from_pretrained(folder.path)
    assert not trace.exists()


def test_a_broken_file_is_told_by_name_before_anything_is_built(
    folder: Any, tiny_config: Callable[..., dict[str, Any]], tiny_tensors: Callable[..., Tensors]
) -> None:
    folder.write_config(tiny_config())
    folder.write(tiny_tensors(), num_shards=2)
    shard = folder.path / "model-00002-of-00002.safetensors"
    content = shard.read_bytes()
    for broken, words in (
        (content[:-1000], f"{str(shard)!r} ({len(content) - 1000} bytes) is damaged or incomplete"),
        (b"", f"{str(shard)!r} is empty"),
    ):
        shard.write_bytes(broken)
        with pytest.raises(CheckpointError) as caught:
            MiniGeminiForConditionalGeneration.from_pretrained(folder.path)
        assert words in str(caught.value)
    shard.unlink()
    with pytest.raises(
        CheckpointError, match=r"'model-00002-of-00002\.safetensors' is missing from .*\. Download it\."
    ):
        MiniGeminiForConditionalGeneration.from_pretrained(folder.path)


def test_a_folder_that_is_not_there_is_a_clear_error() -> None:
    with pytest.raises(CheckpointError, match="'someone/no-such-model' cannot be loaded"):
        MiniGeminiForConditionalGeneration.from_pretrained("someone/no-such-model")
