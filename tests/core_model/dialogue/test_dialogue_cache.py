"""One answer at a time over caches that stay: what is reused, how it ends, and what is a cache of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.core_model.dialogue.dialogue_cache import DialogueCache
from mgem_agent.errors import ContextOverflowError

ASKED = [{"role": "user", "content": "What is it?"}]


@pytest.fixture
def cache(
    make_model: Callable[..., MiniGeminiForConditionalGeneration], tokenizer: PreTrainedTokenizerFast
) -> DialogueCache:
    """Caches of a model that generates no white space and no special token."""
    model = make_model(initializer_range=0.3)
    model.generation_config.suppress_tokens = [0, 1, 2, 3, 4, 5]
    model.config.prompt_template = "chatml"
    return DialogueCache(model, MiniGeminiProcessor.from_model_config(model.config, tokenizer))


def test_a_begun_answer_goes_on_from_the_one_before(cache: DialogueCache) -> None:
    first = cache.answer(cache.prompt(ASKED, ()), {"max_new_tokens": 6})
    text = "".join(first.stream())
    assert (len(text), len(first.produced), first.num_cached, first.finish_reason) == (6, 6, 0, "length")
    begun = cache.answer(cache.prompt(ASKED, (), prefill=text[:3]), {"max_new_tokens": 3})
    assert begun.num_cached == len(begun.prompt.input_ids) - 1 == len(first.prompt.input_ids) + 2
    assert "".join(begun.stream()) == text[3:]


def test_how_it_ends(cache: DialogueCache) -> None:
    prompt = cache.prompt(ASKED, ())
    first = cache.answer(prompt, {"max_new_tokens": 6})
    text = "".join(first.stream())
    stopped = cache.answer(prompt, {"max_new_tokens": 6, "eos_token_id": first.produced[0]})
    assert ("".join(stopped.stream()), stopped.finish_reason, stopped.produced) == ("", "stop", first.produced[:1])
    cancel = threading.Event()
    cancel.set()
    cancelled = cache.answer(prompt, {"max_new_tokens": 6})
    assert ("".join(cancelled.stream(cancel)), cancelled.finish_reason) == ("", "cancelled")
    assert "".join(cache.answer(prompt, {"max_new_tokens": 6}).stream()) == text
    with pytest.raises(ContextOverflowError):
        cache.answer(prompt, {"max_new_tokens": 1000})


def test_a_static_cache_answers_the_same(cache: DialogueCache) -> None:
    prompt = cache.prompt(ASKED, ())
    text = "".join(cache.answer(prompt, {"max_new_tokens": 6}).stream())
    static = cache.answer(prompt, {"max_new_tokens": 6, "cache_implementation": "static"})
    assert static.num_cached == 0, "transformers makes that cache for each answer"
    assert "".join(static.stream()) == text


def test_pictures_of_a_prompt_are_encoded_as_one_batch(cache: DialogueCache, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue")]
    keys = [cache.images.add(picture) for picture in pictures]
    encode = cache.model.get_image_features
    sizes: list[int] = []

    def counted(pixel_values: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(pixel_values))
        return encode(pixel_values, *args, **kwargs)

    monkeypatch.setattr(cache.model, "get_image_features", counted)
    cache.images.encode(keys)
    batch = [cache.images.features[key] for key in keys]
    cache.images.encode(keys)
    assert sizes == [3], "all at once, and only once"
    for picture, rows in zip(pictures, batch, strict=True):
        single = DialogueCache(cache.model, cache.processor).images
        key = single.add(picture)
        single.encode([key])
        torch.testing.assert_close(rows, single.features[key], atol=1e-5, rtol=1e-4)


def test_a_copy_is_a_cache_of_its_own(cache: DialogueCache) -> None:
    text = "".join(cache.answer(cache.prompt(ASKED, ()), {"max_new_tokens": 4}).stream())
    twin = cache.copy()
    cache.reset()
    assert (cache.prefix.num_tokens, twin.prefix.num_tokens > 0) == (0, True)
    again = twin.answer(twin.prompt(ASKED, ()), {"max_new_tokens": 4})
    assert again.num_cached == len(again.prompt.input_ids) - 1
    assert "".join(again.stream()) == text
    assert not cache.may_reuse({"use_cache": False})
