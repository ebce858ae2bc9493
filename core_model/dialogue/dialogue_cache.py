"""The cache of a dialogue between two answers, and answers that use it.

Each answer renders the full dialogue to token ids. It reuses the visual tokens of every known image, and the keys and
values of the longest prefix that the new ids share with the previous ones. So each answer is, token for token, the same
as without a cache.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from mgem_agent.core_model.context import check_context, max_context
from mgem_agent.core_model.dialogue.dialogue_images import images_of
from mgem_agent.core_model.dialogue.image_memory import ImageMemory
from mgem_agent.core_model.dialogue.prefix_cache import PrefixCache
from mgem_agent.core_model.dialogue.streaming import Stop, ending_options, input_device, seeded, stream_tokens
from mgem_agent.core_model.dialogue.text_decoder import TextDecoder
from mgem_agent.core_model.forced_answer import ForcedAnswer
from mgem_agent.core_model.prompts.tokens import encode_prompt
from mgem_agent.errors import GenerationCancelledError

if TYPE_CHECKING:
    from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration
    from mgem_agent.core_model.processing import MiniGeminiProcessor

__all__ = ["Answer", "DialogueCache", "DialoguePrompt"]

_MAX_NEW_TOKENS = 512
"""Default length of an answer in tokens, if the context has room for it."""

_IMAGES_PER_BATCH = 8
"""Most images encoded at once. A cancellation takes effect between two batches."""

_NEEDS_OWN_CACHE = ("assistant_early_exit", "assistant_model", "cache_implementation", "prompt_lookup_num_tokens")
"""Options for which `generate` needs its own cache; such an answer is computed without this one."""


@dataclass(frozen=True)
class DialoguePrompt:
    """A dialogue as token ids.

    Attributes:
        input_ids: The ids.
        keys: One for each id, as in :class:`PrefixCache`: a visual token has the key of its image.
        image_keys: Keys of the images, in order.
        num_image_tokens: Number of ids that are visual tokens.
        asked_keys: Keys of the images in the last message, if the answer is free: not prefilled, and no drawing.
    """

    input_ids: list[int]
    keys: list[int]
    image_keys: tuple[int, ...]
    num_image_tokens: int
    asked_keys: tuple[int, ...] = ()


class DialogueCache:
    """Encoded images, keys and values of one dialogue.

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
        self._is_resting = False

    def copy(self) -> DialogueCache:
        """Return an independent copy; the tensors of images are shared."""
        twin = copy.copy(self)
        twin.images, twin.prefix = self.images.copy(), self.prefix.copy()
        return twin

    def reset(self) -> None:
        """Clear the cache."""
        self.images = ImageMemory(self.model, self.processor)
        self.prefix.reset()

    def rest(self) -> None:
        """Move the encoded images, the keys and the values to the CPU; :meth:`wake` brings them back."""
        self._is_resting = True
        self.images.to("cpu")
        self.prefix.to("cpu")

    def wake(self) -> None:
        """Move what :meth:`rest` has moved back to the device of the model."""
        if self._is_resting:
            device = input_device(self.model)
            self.images.to(device)
            self.prefix.to(device)
            self._is_resting = False

    def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        image_keys: Sequence[int],
        *,
        is_asked: bool = True,
        prefill: str = "",
    ) -> DialoguePrompt:
        """Render a dialogue.

        Args:
            messages: The dialogue.
            image_keys: Keys of its images from `images`, in order.
            is_asked: Whether an answer follows.
            prefill: The prefilled beginning of that answer.
        """
        marks, tokenizer = self.processor.image_tokens, self.processor.tokenizer
        said = [*messages, {"role": "assistant", "content": prefill}] if prefill else list(messages)
        text = self.processor.apply_chat_template(
            said, add_generation_prompt=is_asked and not prefill, continue_final_message=bool(prefill)
        )
        has_bos = bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)  # the format already contains it
        ids = encode_prompt(text, tokenizer, marks, add_special_tokens=not has_bos).input_ids
        places = iter([key for key in image_keys for _ in range(marks.num_tokens)])
        keys = [next(places) if token == marks.token_id else token for token in ids]
        is_free = is_asked and not prefill and messages[-1]["role"] == "user" and not messages[-1].get("draw")
        num_asked = len(images_of(messages[-1:])) if is_free else 0
        asked = tuple(image_keys)[len(image_keys) - num_asked :]
        return DialoguePrompt(ids, keys, tuple(image_keys), len(image_keys) * marks.num_tokens, asked)

    def answer(self, prompt: DialoguePrompt, options: Mapping[str, Any]) -> Answer:
        """Return an answer that is ready to be generated; drop the part of the cache that the prompt does not share.

        Args:
            prompt: The dialogue. Its images must be in `images`.
            options: Options of `generate`, and `seed`. `max_new_tokens` is 512 by default, or less if there is less
                room.

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
        """Return whether an answer with these options can use the cache."""
        own = [options.get(name, getattr(self.model.generation_config, name, None)) for name in _NEEDS_OWN_CACHE]
        return self.prefix.is_reusable and options.get("use_cache", True) and all(value is None for value in own)


class Answer:
    """One answer, created by :meth:`DialogueCache.answer`.

    Args:
        cache: The cache that it uses and extends.
        prompt: The dialogue.
        options: All options of `generate`, and `seed`.

    Attributes:
        produced: Token ids generated so far, including the stop token.
        num_cached: Tokens of the prompt that come from the cache.
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
        """Why it ended; None until then."""
        if self.produced and self.produced[-1] in self._options["eos_token_id"]:
            return "stop"
        return "length" if len(self.produced) >= self._options["max_new_tokens"] else "cancelled"

    def stream(
        self,
        cancel: threading.Event | None = None,
        *,
        hold: Callable[[Callable[[], bool]], AbstractContextManager[None]] | None = None,
    ) -> Generator[str, None, None]:
        """Yield its text piece by piece; call this once.

        Args:
            cancel: When set, from any thread, it ends within one token.
            hold: Keeps the model on its device while it computes; called with what says whether the answer was
                cancelled.
        """

        def produce(streamer: BaseStreamer, stop: Stop) -> None:
            if hold is None:
                self._generate(streamer, stop)
                return
            try:
                with hold(stop.is_set):
                    self._cache.wake()
                    self._generate(streamer, stop)
            except GenerationCancelledError:
                if not stop.is_set():
                    raise

        with closing(stream_tokens(produce, cancel=cancel)) as tokens:
            yield from TextDecoder(self._cache.processor.tokenizer).decode(self._worded(tokens))

    def _worded(self, tokens: Iterable[int]) -> Iterator[int]:
        """Record tokens, and yield all but stop tokens."""
        for token in tokens:
            self.produced.append(token)
            if token not in self._options["eos_token_id"]:
                yield token

    def _generate(self, streamer: BaseStreamer, stop: Stop) -> None:
        """Encode new images, pre-fill new tokens and generate, in the answer's thread."""
        cache, prompt, prefix = self._cache, self.prompt, self._prefix
        for start in range(0, len(prompt.image_keys), _IMAGES_PER_BATCH):
            if not stop.is_set():
                cache.images.encode(prompt.image_keys[start : start + _IMAGES_PER_BATCH])
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
        if forced := self._forced_answer():
            others["logits_processor"] = [*(others.get("logits_processor") or ()), forced]
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
            cache.prefix.reset()  # layers may hold different numbers of tokens now
            raise
        if prefix is not None:
            sequence = getattr(output, "sequences", output)[0]
            prefix.extend([*prompt.keys, *sequence[len(prompt.keys) :].tolist()])

    def _forced_answer(self) -> ForcedAnswer | None:
        """Return what fixes the answer, if it is about a picture unlike those that the model was trained on."""
        cache = self._cache
        asked = [cache.images.features[key] for key in self.prompt.asked_keys]
        return cache.model.forced_answer([asked], cache.processor.tokenizer, self._options["eos_token_id"])
