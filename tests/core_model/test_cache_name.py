"""The key-value cache is taken under either of transformers' names for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import torch
from transformers import DynamicCache, LlamaModel

from mgem_agent.core_model import MiniGeminiForConditionalGeneration
from mgem_agent.core_model.cache_name import CACHE_NAME, CACHE_NAMES, rename_cache


def test_the_name_is_that_of_the_librarys_own_models() -> None:
    assert CACHE_NAME in inspect.signature(inspect.unwrap(LlamaModel.forward)).parameters


@pytest.mark.parametrize("name", CACHE_NAMES)
def test_forward_and_generate_take_either_name(
    make_model: Callable[..., MiniGeminiForConditionalGeneration], name: str
) -> None:
    model = make_model()
    ids = torch.randint(1, 100, (1, 9))
    cache = DynamicCache(config=model.config.text_config)
    assert model(ids[:, :5], use_cache=True, **{name: cache})[CACHE_NAME] is cache
    assert cache.get_seq_length() == 5
    torch.testing.assert_close(model(ids[:, 5:], **{name: cache}).logits, model(ids).logits[:, 5:])
    cache.crop(-2)
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 3, "do_sample": False}
    said = model.generate(input_ids=ids, **{name: cache}, **options)
    assert torch.equal(said, model.generate(input_ids=ids, **options))
    assert cache.get_seq_length() == 11


def test_no_cache_is_no_argument() -> None:
    assert rename_cache({"cache": None, "past_key_values": None, "use_cache": True}) == {"use_cache": True}
