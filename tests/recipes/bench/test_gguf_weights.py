"""Weights for llama.cpp: gguf's own reader finds the same matrices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, dequantize
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from mgem_agent.core_model import MiniGeminiForConditionalGeneration
from mgem_agent.errors import InputError
from mgem_agent.recipes.bench.gguf_weights import write_gguf
from mgem_agent.recipes.bench.rounds import build_tokenizer
from mgem_agent.recipes.bench.sizes import bench_config, build_model


@pytest.fixture(scope="module")
def model() -> MiniGeminiForConditionalGeneration:
    config = bench_config(small=True, llm="none")
    config.text_config.tie_word_embeddings = config.tie_word_embeddings = True
    return build_model(config, device=torch.device("cpu"), dtype=torch.float32)


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"a": 0, "b": 1, "ab": 2}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE(vocabulary, [("a", "b")])), bos_token="<s>")


def read(path: Path) -> dict[str, Any]:
    return {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in GGUFReader(path).tensors}


@pytest.mark.parametrize(("bits", "tolerance"), [(8, 0.01), (4, 0.15)])
def test_the_matrices_are_those_of_the_model(
    model: MiniGeminiForConditionalGeneration, tmp_path: Path, bits: Any, tolerance: float
) -> None:
    found = read(write_gguf(model, tokenizer(), tmp_path / "model.gguf", bits=bits))
    trunk: Any = model.model.language_model
    wanted = trunk.layers[0].mlp.down_proj.weight.detach().numpy()
    assert np.abs(found["blk.0.ffn_down.weight"] - wanted).max() < tolerance * np.abs(wanted).max()
    norm = trunk.norm.weight.detach().numpy()
    assert np.array_equal(found["output_norm.weight"], norm)


def test_queries_turn_in_neighbouring_pairs(model: MiniGeminiForConditionalGeneration, tmp_path: Path) -> None:
    found = read(write_gguf(model, tokenizer(), tmp_path / "model.gguf", bits=8))["blk.0.attn_q.weight"]
    trunk: Any = model.model.language_model
    wanted = trunk.layers[0].self_attn.q_proj.weight.detach().numpy()
    half = trunk.layers[0].self_attn.head_dim // 2
    tolerance = 0.01 * np.abs(wanted).max()
    for place in range(half):
        assert np.abs(found[2 * place] - wanted[place]).max() < tolerance
        assert np.abs(found[2 * place + 1] - wanted[half + place]).max() < tolerance


def test_another_tokenizer_is_refused(model: MiniGeminiForConditionalGeneration, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a BPE tokenizer, got 'llama' with 'WordLevel'\. Use nano\."):
        write_gguf(model, build_tokenizer(40), tmp_path / "model.gguf", bits=8)
