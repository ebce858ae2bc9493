"""The core model as a text engine: each call has the whole dialogue, and computes only what is new of it.

The dialogue is rendered afresh each time, as :class:`mgem_agent.core_model.Conversation` does it, and what the last
call left is reused as far as the token ids are the same. An answer that is begun for the model is part of the prompt.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers import StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from mgem_agent.conversation_pool import CachedDialogue, ConversationPool
from mgem_agent.core_model.context import check_context, max_context
from mgem_agent.core_model.image_loading import load_image
from mgem_agent.core_model.image_memory import ImageMemory
from mgem_agent.core_model.prefix_cache import PrefixCache
from mgem_agent.core_model.prompt_tokens import encode_prompt
from mgem_agent.core_model.streaming import Stop, ending_options, input_device, seeded, stream_tokens
from mgem_agent.core_model.text_decoder import TextDecoder
from mgem_agent.errors import InputError
from mgem_agent.text_engine import Dialogue, FinishReason, TextEnd, TextRequest

if TYPE_CHECKING:
    from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration
    from mgem_agent.core_model.processing import MiniGeminiProcessor

__all__ = ["CoreEngine"]

_MAX_NEW_TOKENS = 512
"""Length of an answer where none is asked for, if the context has room for it."""

_OWN_OPTIONS = ("stopping_criteria", "streamer", "past_key_values", "use_cache", "num_beams", "assistant_model")
"""Options of `generate` that this engine sets itself or cannot keep its cache with."""


@dataclass
class _Caches:
    prefix: PrefixCache
    images: ImageMemory
    keys: dict[str, int] = field(default_factory=dict)  # of the images, by fingerprint


@dataclass(frozen=True)
class _Prompt:
    input_ids: list[int]
    keys: list[int]  # as in PrefixCache
    image_keys: tuple[int, ...]


class CoreEngine:
    """Goes on with a dialogue by the core model. Any thread may call it.

    Args:
        model: The model.
        processor: The model's processor.
        max_dialogues: How many dialogues keep their caches between calls.
    """

    def __init__(
        self,
        model: MiniGeminiForConditionalGeneration,
        processor: MiniGeminiProcessor,
        *,
        max_dialogues: int = 4,
    ) -> None:
        self.model = model
        self.processor = processor
        self.dialogues: ConversationPool[_Caches] = ConversationPool(self._new_caches, max_dialogues)

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        """Yield the answer; see :class:`mgem_agent.text_engine.TextEngine`.

        Raises:
            ImageError: If a picture cannot be read.
            PromptError: If the dialogue format refuses the dialogue.
            ContextOverflowError: If the dialogue leaves no room for the answer. Nothing is computed then.
        """
        pictures = {id(source): _image_name(source) for source in _images(request.dialogue)}
        prints = [_fingerprint(message, pictures) for message in request.dialogue]
        with self.dialogues.lend(prints, request.thread_id) as lent:
            yield from self._answer(request, lent, pictures)

    def _new_caches(self) -> _Caches:
        return _Caches(PrefixCache(self.model), ImageMemory(self.model, self.processor))

    def _answer(
        self, request: TextRequest, lent: CachedDialogue[_Caches], pictures: Mapping[int, str]
    ) -> Iterator[str | TextEnd]:
        caches = lent.state
        try:
            prompt = self._prompt(request, caches, pictures)
            options = self._options(request, prompt)
            prefix = caches.prefix if caches.prefix.is_reusable else None
            num_cached = 0 if prefix is None else prefix.keep_common(prompt.keys)
            produced: list[int] = []

            def produce(streamer: BaseStreamer, stop: Stop) -> None:
                self._generate(prompt, caches, prefix, dict(options), streamer, stop)

            def worded(tokens: Iterator[int]) -> Iterator[int]:
                for token in tokens:
                    produced.append(token)
                    if token not in options["eos_token_id"]:
                        yield token

            with closing(stream_tokens(produce, cancel=request.cancel)) as tokens:
                yield from TextDecoder(self.processor.tokenizer).decode(worded(tokens))
            image_tokens = len(prompt.image_keys) * self.processor.num_image_tokens
            reason = _finish_reason(produced, options)
            yield TextEnd(len(prompt.input_ids), len(produced), image_tokens, num_cached, reason)
        finally:
            shown = {caches.keys[name] for name in pictures.values() if name in caches.keys}
            caches.images.retain(shown)

    def _prompt(self, request: TextRequest, caches: _Caches, pictures: Mapping[int, str]) -> _Prompt:
        shown = _images(request.dialogue)
        image_keys = tuple(self._image_key(source, pictures[id(source)], caches) for source in shown)
        messages = list(request.dialogue)
        if request.begun:
            messages.append({"role": "assistant", "content": request.begun})
        text = self.processor.apply_chat_template(
            messages, add_generation_prompt=not request.begun, continue_final_message=bool(request.begun)
        )
        marks = self.processor.image_tokens
        bos = self.processor.tokenizer.bos_token
        has_bos = bool(bos) and text.startswith(bos)
        ids = encode_prompt(text, self.processor.tokenizer, marks, add_special_tokens=not has_bos).input_ids
        places = iter([key for key in image_keys for _ in range(marks.num_tokens)])
        keys = [next(places) if token == marks.token_id else token for token in ids]
        return _Prompt(ids, keys, image_keys)

    def _image_key(self, source: Any, name: str, caches: _Caches) -> int:
        key = caches.keys.get(name)
        if key is None or key not in caches.images.features:
            key = caches.keys[name] = caches.images.add(source)
        return key

    def _options(self, request: TextRequest, prompt: _Prompt) -> dict[str, Any]:
        """Return the options of `generate`, after a look at the room that is left."""
        wanted = request.max_tokens
        if wanted is None:
            limit = max_context(self.model.config)
            room = _MAX_NEW_TOKENS if limit is None else limit - len(prompt.input_ids)
            wanted = max(1, min(_MAX_NEW_TOKENS, room))
        check_context(self.model.config, torch.tensor([prompt.input_ids]), None, wanted)
        options: dict[str, Any] = {"max_new_tokens": wanted, "seed": request.seed}
        if request.temperature == 0:
            options |= {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        else:
            sampling = {"temperature": request.temperature, "top_p": request.top_p}
            given = {name: value for name, value in sampling.items() if value is not None}
            options |= given | ({"do_sample": True} if given else {})
        return ending_options(self.model, self.processor, {**options, **_checked(request.options)})

    def _generate(
        self,
        prompt: _Prompt,
        caches: _Caches,
        prefix: PrefixCache | None,
        options: dict[str, Any],
        streamer: BaseStreamer,
        stop: Stop,
    ) -> None:
        """Encode what is new, pre-fill what is new, and generate; in the thread of the answer."""
        for key in prompt.image_keys:
            if not stop.is_set():
                caches.images.encode(key)
        if stop.is_set():
            return
        device = input_device(self.model)
        input_ids = torch.tensor([prompt.input_ids], device=device)
        features = caches.images.features
        if prefix is not None:
            prefix.prefill(input_ids, prompt.keys, features, stop.is_set)
        if stop.is_set():
            return
        past = caches.prefix.arguments(prompt.keys, features, is_reused=prefix is not None)
        try:
            with seeded(options.pop("seed"), device):
                output = self.model.generate(
                    input_ids=input_ids,
                    attention_mask=torch.ones_like(input_ids),
                    streamer=streamer,
                    stopping_criteria=StoppingCriteriaList([stop]),
                    **past,
                    **options,
                )
        except BaseException:
            caches.prefix.reset()  # some layers may have got further than others
            raise
        if prefix is not None:
            sequence = getattr(output, "sequences", output)[0]
            prefix.extend([*prompt.keys, *sequence[len(prompt.keys) :].tolist()])


def _checked(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return options of `generate`, after a look at whether they may be given.

    Raises:
        InputError: If one of them is the engine's own.
    """
    if refused := sorted(set(options) & set(_OWN_OPTIONS)):
        raise InputError(
            f"generation_options has {', '.join(map(repr, refused))}, which the chat model sets itself. Leave it out, "
            "or call the core model's generate."
        )
    return options


def _finish_reason(produced: list[int], options: Mapping[str, Any]) -> FinishReason:
    if produced and produced[-1] in options["eos_token_id"]:
        return "stop"
    return "length" if len(produced) >= options["max_new_tokens"] else "cancelled"


def _images(dialogue: Dialogue) -> list[Any]:
    parts = [part for message in dialogue if not isinstance(message["content"], str) for part in message["content"]]
    return [part["image"] for part in parts if part["type"] == "image"]


def _image_name(source: Any) -> str:
    """Return a fingerprint of a picture; what is encoded is known by its bytes, without decoding it."""
    if isinstance(source, str) and source[:5].lower() == "data:":
        return hashlib.sha256(source.encode()).hexdigest()
    if isinstance(source, (str, os.PathLike)) and os.path.isfile(source):
        with open(source, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    picture = load_image(source)
    return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()


def _fingerprint(message: Mapping[str, Any], pictures: Mapping[int, str]) -> str:
    content = message["content"]
    if not isinstance(content, str):
        content = [part["text"] if part["type"] == "text" else [pictures[id(part["image"])]] for part in content]
    return hashlib.sha256(repr((message["role"], message.get("draw"), content)).encode()).hexdigest()
