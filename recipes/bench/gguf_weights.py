"""Write a LLaMA in the core model as a GGUF file for llama.cpp, so that both measure the same weights.

The matrices get 8 or 4 bits in llama.cpp's own formats, Q8_0 and Q4_0; the embedding, which is also the head, gets 8.
llama.cpp stores the rows of queries and keys in the order of neighbouring pairs, transformers in halves.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mgem_agent.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

    from mgem_agent.core_model import MiniGeminiForConditionalGeneration

__all__ = ["write_gguf"]

_MATRICES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}

_NORMAL, _CONTROL, _UNUSED = 1, 3, 5
"""Kinds of tokens in the file."""


def write_gguf(
    model: MiniGeminiForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    path: str | os.PathLike[str],
    *,
    bits: Literal[8, 4],
) -> Path:
    """Write the language model of a core model.

    Args:
        model: The model; its language model must be a LLaMA whose head is its embedding.
        tokenizer: Its tokenizer, a byte-level BPE.
        path: The file.
        bits: Bits per weight of the matrices.

    Raises:
        InputError: If the language model or the tokenizer is of another kind.
    """
    import gguf
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    config: Any = model.config.text_config
    fast: Any = tokenizer  # typed as any tokenizer, which may have no such part
    data = json.loads(fast.backend_tokenizer.to_str())
    if config.model_type != "llama" or not config.tie_word_embeddings or data["model"]["type"] != "BPE":
        raise InputError(
            f"A GGUF file can be written of a LLaMA with tied embeddings and a BPE tokenizer, got "
            f"{config.model_type!r} with {data['model']['type']!r}. Use nano."
        )
    trunk: Any = model.model.language_model
    weights = {name: value.detach().float().numpy() for name, value in trunk.state_dict().items()}
    kind = {8: GGMLQuantizationType.Q8_0, 4: GGMLQuantizationType.Q4_0}[bits]
    writer = GGUFWriter(path, "llama")
    _add_sizes(writer, config)
    _add_tokens(writer, data, len(weights["embed_tokens.weight"]), config)

    def add(name: str, value: np.ndarray[Any, Any], kind: gguf.GGMLQuantizationType) -> None:
        writer.add_tensor(f"{name}.weight", quants.quantize(value, kind), raw_dtype=kind)

    add("token_embd", weights["embed_tokens.weight"], GGMLQuantizationType.Q8_0)
    writer.add_tensor("output_norm.weight", weights["norm.weight"])
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for layer in range(config.num_hidden_layers):
        for ours, theirs in _MATRICES.items():
            value = weights[f"layers.{layer}.{ours}.weight"]
            add(f"blk.{layer}.{theirs}", _in_pairs(value, heads[theirs]) if theirs in heads else value, kind)
        for ours, theirs in _NORMS.items():
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", weights[f"layers.{layer}.{ours}.weight"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)


def _add_sizes(writer: Any, config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)


def _add_tokens(writer: Any, data: dict[str, Any], num_rows: int, config: Any) -> None:
    tokens, kinds = [f"<unused{place}>" for place in range(num_rows)], [_UNUSED] * num_rows
    for token, place in data["model"]["vocab"].items():
        tokens[place], kinds[place] = token, _NORMAL
    for token in data["added_tokens"]:
        if token["id"] < num_rows:  # the image token of nano has no embedding
            tokens[token["id"]], kinds[token["id"]] = token["content"], _CONTROL
    writer.add_vocab_size(num_rows)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in data["model"]["merges"]])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_add_bos_token(False)


def _in_pairs(rows: np.ndarray[Any, Any], num_heads: int) -> np.ndarray[Any, Any]:
    """Return the rows (h·c, d) with those of each head in llama.cpp's order."""
    halves = rows.reshape(num_heads, 2, -1, rows.shape[-1])
    paired: np.ndarray[Any, Any] = halves.swapaxes(1, 2).reshape(rows.shape)
    return paired
