"""What is kept of a dialogue between two answers, and the answer that goes on from it.

A dialogue is rendered to token ids whole each time, as if it were run afresh. What earlier answers left is reused: the
visual tokens of every image, and the keys and values of the longest prefix that the new ids share with the old. So an
answer says, token for token, what the whole dialogue says when it is run afresh.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from mgem_agent.core_model.context import check_context, max_context
from mgem_agent.core_model.dialogue.image_memory import ImageMemory
from mgem_agent.core_model.dialogue.prefix_cache import PrefixCache
from mgem_agent.core_model.dialogue.streaming import Stop, ending_options, input_device, seeded, stream_tokens
from mgem_agent.core_model.dialogue.text_decoder import TextDecoder
from mgem_agent.core_model.prompts.tokens import encode_prompt

if TYPE_CHECKING:
    from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration
    from mgem_agent.core_model.processing import MiniGeminiProcessor

__all__ = ["Answer", "DialogueCache", "DialoguePrompt"]

_MAX_NEW_TOKENS = 512
"""Length of an answer where none is asked for, if the context has room for it."""

_NEEDS_OWN_CACHE = ("assistant_early_exit", "assistant_model", "cache_implementation", "prompt_lookup_num_tokens")
"""Options with which `generate` fills a cache of its own; such an answer is computed afresh."""


@dataclass(frozen=True)
class DialoguePrompt:
    """A dialogue as token ids.

    Attributes:
        input_ids: The ids.
        keys: One for each of them, as in :class:`PrefixCache`: a visual token has the key of its image.
        image_keys: Keys of the images, in the order of their places.
        num_image_tokens: How many of the ids stand for images.
    """

    input_ids: list[int]
    keys: list[int]
    image_keys: tuple[int, ...]
    num_image_tokens: int


class DialogueCache:
    """Encoded images, keys and values of one dialogue, whatever becomes of its messages.

    Args:
        model: The model; several dialogues may share it.
        processor: The model's processor.

    Attributes:
        images: The encoded images.
        prefix: The keys and values.
    """

    def __init__(self, model: MiniGeminiForConditionalGeneration, processor: MiniGeminiProcessor) -> None:
        self.model = model
        self.processor = processor
        self.images = ImageMemory(model, processor)
        self.prefix = PrefixCache(model)

    def copy(self) -> DialogueCache:
        """Return a cache of its own with the same content; the tensors of images are shared."""
        twin = copy.copy(self)
        twin.images, twin.prefix = self.images.copy(), self.prefix.copy()
        return twin

    def reset(self) -> None:
        """Forget everything."""
        self.images = ImageMemory(self.model, self.processor)
        self.prefix.reset()

    def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        image_keys: Sequence[int],
        *,
        is_asked: bool = True,
        begun: str = "",
    ) -> DialoguePrompt:
        """Render a dialogue.

        Args:
            messages: The dialogue.
            image_keys: Keys of its images, which `images` has given them, in order.
            is_asked: Whether an answer is to follow.
            begun: The beginning of that answer.
        """
        marks, tokenizer = self.processor.image_tokens, self.processor.tokenizer
        said = [*messages, {"role": "assistant", "content": begun}] if begun else list(messages)
        text = self.processor.apply_chat_template(
            said, add_generation_prompt=is_asked and not begun, continue_final_message=bool(begun)
        )
        has_bos = bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)  # the format has written it
        ids = encode_prompt(text, tokenizer, marks, add_special_tokens=not has_bos).input_ids
        places = iter([key for key in image_keys for _ in range(marks.num_tokens)])
        keys = [next(places) if token == marks.token_id else token for token in ids]
        return DialoguePrompt(ids, keys, tuple(image_keys), len(image_keys) * marks.num_tokens)

    def answer(self, prompt: DialoguePrompt, options: Mapping[str, Any]) -> Answer:
        """Return an answer that is about to be written; what the prompt does not share with the cache is dropped.

        Args:
            prompt: The dialogue. Its images must be in `images`.
            options: Options of `generate`, and `seed`. `max_new_tokens` is 512 by default, or what there is room for.

        Raises:
            ContextOverflowError: If the dialogue leaves no room for the answer.
        """
        config, wanted = self.model.config, options.get("max_new_tokens")
        if wanted is None:
            limit = max_context(config)
            room = _MAX_NEW_TOKENS if limit is None else limit - len(prompt.input_ids)
            wanted = max(1, min(_MAX_NEW_TOKENS, room))
        check_context(config, torch.tensor([prompt.input_ids]), None, wanted)
        completed = ending_options(self.model, self.processor, {**options, "max_new_tokens": wanted})
        return Answer(self, prompt, completed)

    def may_reuse(self, options: Mapping[str, Any]) -> bool:
        """Return whether an answer with these options can go on from what is cached."""
        own = [options.get(name, getattr(self.model.generation_config, name, None)) for name in _NEEDS_OWN_CACHE]
        return self.prefix.is_reusable and options.get("use_cache", True) and all(value is None for value in own)


class Answer:
    """One answer, as :meth:`DialogueCache.answer` begins it.

    Args:
        cache: What it goes on from, and leaves its keys and values in.
        prompt: The dialogue.
        options: All options of `generate`, and `seed`.

    Attributes:
        produced: Token ids that the model has written so far, with the one that ended it.
        num_cached: Tokens of the prompt that need not be computed again.
    """

    def __init__(self, cache: DialogueCache, prompt: DialoguePrompt, options: Mapping[str, Any]) -> None:
        self.prompt = prompt
        self.produced: list[int] = []
        self._cache = cache
        self._options = options
        self._prefix = cache.prefix if cache.may_reuse(options) else None
        self.num_cached = 0 if self._prefix is None else self._prefix.keep_common(prompt.keys)

    @property
    def finish_reason(self) -> Literal["stop", "length", "cancelled"]:
        """Why it ended, once it has."""
        if self.produced and self.produced[-1] in self._options["eos_token_id"]:
            return "stop"
        return "length" if len(self.produced) >= self._options["max_new_tokens"] else "cancelled"

    def stream(self, cancel: threading.Event | None = None) -> Generator[str, None, None]:
        """Yield its text piece by piece; to be called once.

        Args:
            cancel: When set, from any thread, it ends within one token.
        """
        with closing(stream_tokens(self._generate, cancel=cancel)) as tokens:
            yield from TextDecoder(self._cache.processor.tokenizer).decode(self._worded(tokens))

    def _worded(self, tokens: Iterable[int]) -> Iterator[int]:
        """Take note of tokens, and leave out those that end the answer."""
        for token in tokens:
            self.produced.append(token)
            if token not in self._options["eos_token_id"]:
                yield token

    def _generate(self, streamer: BaseStreamer, stop: Stop) -> None:
        """Encode what is new, pre-fill what is new, and generate; in the thread of the answer."""
        cache, prompt, prefix = self._cache, self.prompt, self._prefix
        for key in prompt.image_keys:
            if not stop.is_set():
                cache.images.encode(key)
        if stop.is_set():
            return
        device = input_device(cache.model)
        input_ids = torch.tensor([prompt.input_ids], device=device)
        features = cache.images.features
        if prefix is not None:
            prefix.prefill(input_ids, prompt.keys, features, stop.is_set)
        if stop.is_set():
            return
        past = cache.prefix.arguments(prompt.keys, features, is_reused=prefix is not None)
        criteria = StoppingCriteriaList([stop, *(self._options.get("stopping_criteria") or [])])
        others = {name: value for name, value in self._options.items() if name not in ("seed", "stopping_criteria")}
        try:
            with seeded(self._options.get("seed"), device):
                output = cache.model.generate(
                    input_ids=input_ids,
                    attention_mask=torch.ones_like(input_ids),
                    streamer=streamer,
                    stopping_criteria=criteria,
                    **past,
                    **others,
                )
        except BaseException:
            cache.prefix.reset()  # some layers may have got further than others
            raise
        if prefix is not None:
            sequence = getattr(output, "sequences", output)[0]
            prefix.extend([*prompt.keys, *sequence[len(prompt.keys) :].tolist()])
