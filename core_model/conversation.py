"""A dialogue with the model in which each round costs only what is new.

Each round renders the *whole* dialogue to token ids, as if it were run afresh, and then reuses what the last rounds
left: the visual tokens of every image, and the keys and values of the longest prefix that the new ids share with the
old. So a round says, token for token, what the whole dialogue says when it is run afresh, also where an answer, once it
is part of the dialogue, is tokenised differently from how it was generated.

Nothing but the messages is the dialogue. A round joins them when it is over; one that fails, or that is cancelled
before anything was said, leaves them as they were. The caches follow the messages and never lead them.

Example::

    conversation = Conversation(model, processor)
    conversation.say("What is on the table?", images=["table.jpg"])
    for piece in conversation.stream("Which of them is red?"):
        print(piece, end="", flush=True)
    conversation.undo()
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from mgem_agent.core_model.context import check_context, max_context
from mgem_agent.core_model.image_memory import ImageMemory
from mgem_agent.core_model.prefix_cache import PrefixCache
from mgem_agent.core_model.prompt_tokens import encode_prompt
from mgem_agent.core_model.streaming import (
    Stop,
    ending_options,
    input_device,
    seeded,
    stop_token_ids,
    stream_tokens,
)
from mgem_agent.core_model.text_decoder import TextDecoder
from mgem_agent.errors import InputError, MgemError

if TYPE_CHECKING:
    from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration
    from mgem_agent.core_model.processing import MiniGeminiProcessor

__all__ = ["Conversation", "RoundUsage"]

_MAX_NEW_TOKENS = 512
"""Length of an answer where none is asked for, if the context has room for it."""

_NEEDS_OWN_CACHE = ("assistant_early_exit", "assistant_model", "cache_implementation", "prompt_lookup_num_tokens")
"""Options with which `generate` fills a cache of its own; such a round is computed afresh."""


@dataclass(frozen=True)
class RoundUsage:
    """What a round took, in tokens.

    Attributes:
        input_tokens: The whole dialogue up to the answer.
        image_tokens: Those of them that stand for images.
        cached_tokens: Those of them that were not computed again.
        output_tokens: The answer, with the token that ended it.
    """

    input_tokens: int
    image_tokens: int
    cached_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class _Round:
    question: dict[str, Any]
    answer: dict[str, Any]
    image_keys: tuple[int, ...]


class _Prompt:
    """A dialogue as token ids, with a key for each token that also tells images apart."""

    def __init__(self, input_ids: list[int], image_keys: Sequence[int], image_token_id: int, per_image: int) -> None:
        self.input_ids = input_ids
        places = iter([key for key in image_keys for _ in range(per_image)])
        self.keys = [next(places) if token_id == image_token_id else token_id for token_id in input_ids]
        self.num_image_tokens = len(image_keys) * per_image


class Conversation:
    """A dialogue that holds its key-value cache and its encoded images.

    It may be used from any thread, by one at a time.

    Args:
        model: The model; several conversations may share it.
        processor: The model's processor.
        system: The system message; None leaves it to the dialogue format.
        **generation_defaults: Options of every round, as in `generate`, besides `seed`.
    """

    def __init__(
        self,
        model: MiniGeminiForConditionalGeneration,
        processor: MiniGeminiProcessor,
        *,
        system: str | None = None,
        **generation_defaults: Any,
    ) -> None:
        self.model = model
        self.processor = processor
        self.generation_defaults = generation_defaults
        self._system = [] if system is None else [{"role": "system", "content": system}]
        self._rounds: list[_Round] = []
        self._images = ImageMemory(model, processor)
        self._cache = PrefixCache(model)
        self._usage: RoundUsage | None = None
        self._stop_ids = stop_token_ids(model, processor)
        self._lock = threading.Lock()

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The dialogue so far, as a copy: `role` and `content`, and `cancelled` on an answer that was cut short.

        It is what `processor.apply_chat_template` takes: the content of a message with images is a list of parts.
        """
        rounds = [message for each in self._rounds for message in (each.question, each.answer)]
        return [_copied(message) for message in (*self._system, *rounds)]

    @property
    def usage(self) -> RoundUsage | None:
        """What the last round took; None before the first."""
        return self._usage

    @property
    def num_tokens(self) -> int:
        """Tokens of the dialogue so far."""
        return len(self._prompt(self._rounds).input_ids) if self._rounds else 0

    @property
    def num_cached_tokens(self) -> int:
        """Tokens whose keys and values are held; after an undo there may be more of them than the dialogue has."""
        return self._cache.num_tokens

    def say(
        self,
        text: str,
        images: Any = (),
        *,
        cancel: threading.Event | None = None,
        draw: bool = False,
        **options: Any,
    ) -> str:
        """Say something and return the answer; see :meth:`stream`."""
        return "".join(self.stream(text, images, cancel=cancel, draw=draw, **options))

    def stream(
        self,
        text: str,
        images: Any = (),
        *,
        cancel: threading.Event | None = None,
        draw: bool = False,
        **options: Any,
    ) -> Generator[str, None, None]:
        """Say something and yield the answer piece by piece.

        Nothing happens before the first piece is asked for. A round that is cancelled, by `cancel`, by closing the
        iterator or by Ctrl-C, keeps what was said so far, as an answer with `cancelled` set; if that is nothing, or if
        the round fails, the dialogue is as it was before.

        Args:
            text: The user's message.
            images: A picture or a list of them, each as `load_image` takes it; they stand before the text.
            cancel: When set, from any thread, the round ends within one token.
            draw: Whether the user asks for a picture, in the released models' way.
            **options: Options of this round, as in `generate`, and `seed`, which makes sampling repeatable.
                `max_new_tokens` is 512 by default, or what the context has room for.

        Yields:
            Pieces of the answer, without white space at its two ends.

        Raises:
            ImageError: If a picture cannot be read.
            ContextOverflowError: If the dialogue leaves no room for the answer. Nothing is computed then.
            MgemError: If another round of this conversation is still going on.
        """
        pictures = list(images) if isinstance(images, (list, tuple)) else [images]
        with self._busy():
            try:
                image_keys = tuple(self._images.add(picture) for picture in pictures)
                question = _question(text, pictures, draw)
                yield from self._answer(question, image_keys, cancel, {**self.generation_defaults, **options})
            finally:
                self._images.retain({key for each in self._rounds for key in each.image_keys})

    def undo(self, rounds: int = 1) -> None:
        """Take back the last rounds, question and answer, as if they had never been.

        Args:
            rounds: How many.

        Raises:
            InputError: If there are not that many.
        """
        with self._busy():
            if not 1 <= rounds <= len(self._rounds):
                raise InputError(f"Cannot undo {rounds} round(s): the dialogue has {len(self._rounds)}.")
            del self._rounds[-rounds:]

    def reset(self) -> None:
        """Begin anew: only the system message stays."""
        with self._busy():
            self._rounds.clear()
            self._images = ImageMemory(self.model, self.processor)
            self._cache.reset()
            self._usage = None

    def fork(self) -> Conversation:
        """Return a second conversation that goes on from here on its own; the cache is copied, images are shared."""
        with self._busy():
            twin = Conversation(self.model, self.processor, **self.generation_defaults)
            twin._system, twin._rounds = list(self._system), list(self._rounds)
            twin._images, twin._cache, twin._usage = self._images.copy(), self._cache.copy(), self._usage
            return twin

    @contextmanager
    def _busy(self) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise MgemError(
                "This conversation is still answering. Read its stream to the end or close it first, or give each "
                "thread a conversation of its own."
            )
        try:
            yield
        finally:
            self._lock.release()

    def _prompt(self, rounds: Sequence[_Round], asked: tuple[dict[str, Any], tuple[int, ...]] | None = None) -> _Prompt:
        """Render rounds, and a question that is to be answered."""
        messages = [*self._system, *(message for each in rounds for message in (each.question, each.answer))]
        image_keys = [key for each in rounds for key in each.image_keys]
        if asked is not None:
            messages.append(asked[0])
            image_keys += asked[1]
        text = self.processor.apply_chat_template(messages, add_generation_prompt=asked is not None)
        image_tokens = self.processor.image_tokens
        input_ids = encode_prompt(text, self.processor.tokenizer, image_tokens).input_ids
        return _Prompt(input_ids, image_keys, image_tokens.token_id, image_tokens.num_tokens)

    def _answer(
        self,
        question: dict[str, Any],
        image_keys: tuple[int, ...],
        cancel: threading.Event | None,
        options: dict[str, Any],
    ) -> Iterator[str]:
        """Run a round that nothing else interferes with, and let it join the dialogue."""
        prompt = self._prompt(self._rounds, (question, image_keys))
        options = self._complete(options, prompt)
        cache = self._cache if self._may_reuse(options) else None
        num_cached = 0 if cache is None else cache.keep_common(prompt.keys)
        produced: list[int] = []  # by the model
        said: list[str] = []  # to the caller

        def produce(streamer: BaseStreamer, stop: Stop) -> None:
            self._generate(prompt, image_keys, cache, options, streamer, stop)

        def join(*, is_cancelled: bool) -> None:
            text = "".join(said)
            if is_cancelled and not text:
                return
            answer = {"role": "assistant", "content": text} | ({"cancelled": True} if is_cancelled else {})
            self._rounds.append(_Round(question, answer, image_keys))
            self._usage = RoundUsage(len(prompt.input_ids), prompt.num_image_tokens, num_cached, len(produced))

        try:
            with closing(stream_tokens(produce, cancel=cancel)) as tokens:
                for piece in _trimmed(self._text(tokens, produced, options["eos_token_id"])):
                    said.append(piece)
                    yield piece
        except Exception:
            raise  # the dialogue stays as it was
        except BaseException:  # Ctrl-C, or the iterator is closed
            join(is_cancelled=True)
            raise
        is_over = produced and (produced[-1] in options["eos_token_id"] or len(produced) >= options["max_new_tokens"])
        join(is_cancelled=cancel is not None and cancel.is_set() and not is_over)

    def _complete(self, options: Mapping[str, Any], prompt: _Prompt) -> dict[str, Any]:
        """Return all options of a round, after a look at the room that is left."""
        config, wanted = self.model.config, options.get("max_new_tokens")
        if wanted is None:
            limit = max_context(config)
            room = _MAX_NEW_TOKENS if limit is None else limit - len(prompt.input_ids)
            wanted = max(1, min(_MAX_NEW_TOKENS, room))
        check_context(config, torch.tensor([prompt.input_ids]), None, wanted)
        given = {"eos_token_id": self._stop_ids, **options, "max_new_tokens": wanted}
        return ending_options(self.model, self.processor, given)

    def _may_reuse(self, options: Mapping[str, Any]) -> bool:
        """Return whether a round with these options can go on from what is cached."""
        own = [options.get(name, getattr(self.model.generation_config, name, None)) for name in _NEEDS_OWN_CACHE]
        return self._cache.is_reusable and options.get("use_cache", True) and all(value is None for value in own)

    def _text(self, tokens: Iterable[int], produced: list[int], stop_ids: Collection[int]) -> Iterator[str]:
        """Decode tokens, and take note of them."""

        def worded() -> Iterator[int]:
            for token in tokens:
                produced.append(token)
                if token not in stop_ids:
                    yield token

        return TextDecoder(self.processor.tokenizer).decode(worded())

    def _generate(
        self,
        prompt: _Prompt,
        image_keys: Sequence[int],
        cache: PrefixCache | None,
        options: Mapping[str, Any],
        streamer: BaseStreamer,
        stop: Stop,
    ) -> None:
        """Encode what is new, pre-fill what is new, and generate; in the thread of the answer."""
        for key in image_keys:
            if not stop.is_set():
                self._images.encode(key)
        if stop.is_set():
            return
        device = input_device(self.model)
        input_ids = torch.tensor([prompt.input_ids], device=device)
        features = self._images.features
        if cache is not None:
            cache.prefill(input_ids, prompt.keys, features, stop.is_set)
        if stop.is_set():
            return
        past = self._cache.arguments(prompt.keys, features, is_reused=cache is not None)
        seed = options.get("seed")
        criteria = StoppingCriteriaList([stop, *(options.get("stopping_criteria") or [])])
        others = {name: value for name, value in options.items() if name not in ("seed", "stopping_criteria")}
        try:
            with seeded(seed, device):
                output = self.model.generate(
                    input_ids=input_ids,
                    attention_mask=torch.ones_like(input_ids),
                    streamer=streamer,
                    stopping_criteria=criteria,
                    **past,
                    **others,
                )
        except BaseException:
            self._cache.reset()  # some layers may have got further than others
            raise
        if cache is not None:
            sequence = getattr(output, "sequences", output)[0]
            cache.extend([*prompt.keys, *sequence[len(prompt.keys) :].tolist()])


def _question(text: str, pictures: Sequence[Any], draw: bool) -> dict[str, Any]:
    content: Any = text
    if pictures:
        content = [*({"type": "image", "image": picture} for picture in pictures), {"type": "text", "text": text}]
    return {"role": "user", "content": content} | ({"draw": True} if draw else {})


def _copied(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message["content"]
    return {**message, "content": content if isinstance(content, str) else [dict(part) for part in content]}


def _trimmed(pieces: Iterable[str]) -> Iterator[str]:
    """Leave out white space before the first and after the last word; none of what is yielded is empty."""
    held = ""
    has_begun = False
    for piece in pieces:
        text = held + piece if has_begun else piece.lstrip()
        body = text.rstrip()
        held = text[len(body) :]
        if body:
            has_begun = True
            yield body
