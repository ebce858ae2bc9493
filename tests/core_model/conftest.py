"""Tiny models of every family, with random weights."""

from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration

FAMILIES = ("gemma", "gemma2", "gemma3_text", "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe")

VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
}
HIGH_RES = {"hidden_sizes": [4, 8, 12, 16], "depths": [1, 1, 2, 1], "layer_scale_init_value": 0.5}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 100,
    "max_position_embeddings": 256,
}


@pytest.fixture(scope="session")
def make_config() -> Callable[..., MiniGeminiConfig]:
    """A configuration of 16 visual tokens an image, or 80 with `hd=True`; keywords go to `text_config`."""

    def make(family: str = "llama", *, hd: bool = False, **text: Any) -> MiniGeminiConfig:
        return MiniGeminiConfig(
            text_config={**TEXT, "model_type": family, **text},
            vision_config=dict(VISION),
            high_res_vision_config=dict(HIGH_RES),
            high_res_image_size=128 if hd else 64,
            image_grid=2 if hd else 1,
            image_global=hd,
            image_token_id=TEXT["vocab_size"],
        )

    return make


@pytest.fixture(scope="session")
def make_model(make_config: Callable[..., MiniGeminiConfig]) -> Callable[..., MiniGeminiForConditionalGeneration]:
    """A model in evaluation mode, with the arguments of `make_config`."""

    def make(family: str = "llama", **options: Any) -> MiniGeminiForConditionalGeneration:
        return MiniGeminiForConditionalGeneration(make_config(family, **options)).eval()

    return make


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a character: the printable ones of ASCII."""
    symbols = ["<unk>", "<s>", "</s>", "<pad>", "\n", *map(chr, range(32, 127))]
    tokenizer = Tokenizer(
        models.BPE(vocab={symbol: index for index, symbol in enumerate(symbols)}, merges=[], unk_token="<unk>")
    )
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
