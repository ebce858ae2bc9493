"""A dialogue with the model in which each round computes only its new tokens; see :mod:`dialogue_cache`.

Each answer is, token for token, the same as without a cache. That also holds if an answer, as part of the dialogue, is
tokenised differently from how it was generated.

The messages alone define the dialogue. A round is added when it is complete. A round that fails, or is cancelled before
its first text, changes nothing. The caches are derived from the messages.

Example::

    conversation = Conversation(model, processor)
    conversation.say("What is on the table?", images=["table.jpg"])
    for piece in conversation.stream("Which of them is red?"):
        print(piece, end="", flush=True)
    conversation.undo()
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mgem_agent.core_model.dialogue.dialogue_cache import DialogueCache, DialoguePrompt
from mgem_agent.core_model.dialogue.trimming import trimmed
from mgem_agent.errors import InputError, MgemError

if TYPE_CHECKING:
    from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration
    from mgem_agent.core_model.processing import MiniGeminiProcessor

__all__ = ["Conversation", "RoundUsage"]


@dataclass(frozen=True)
class RoundUsage:
    """The tokens of a round.

    Attributes:
        input_tokens: The full dialogue up to the answer.
        image_tokens: Those of `input_tokens` that are visual tokens.
        cached_tokens: Those of `input_tokens` that came from the cache.
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


class Conversation:
    """A dialogue with its key-value cache and encoded images.

    Any thread may use it, but only one at a time.

    Args:
        model: The model; several conversations may share it.
        processor: The model's processor.
        system: The system message; None leaves it to the dialogue format.
        **generation_defaults: Options of `generate`, and `seed`, for every round.
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
        self._cache = DialogueCache(model, processor)
        self._usage: RoundUsage | None = None
        self._finish_reason: Literal["stop", "length", "cancelled"] | None = None
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
        """The tokens of the last round; None before the first."""
        return self._usage

    @property
    def finish_reason(self) -> Literal["stop", "length", "cancelled"] | None:
        """Why the last answer ended: complete, at its token limit, or cancelled; None before the first."""
        return self._finish_reason

    @property
    def num_tokens(self) -> int:
        """Number of tokens of the dialogue so far."""
        return len(self._prompt(self._rounds).input_ids) if self._rounds else 0

    @property
    def num_cached_tokens(self) -> int:
        """Number of tokens in the key-value cache; after an undo it may exceed those of the dialogue."""
        return self._cache.prefix.num_tokens

    def say(
        self,
        text: str,
        images: Any = (),
        *,
        cancel: threading.Event | None = None,
        draw: bool = False,
        **options: Any,
    ) -> str:
        """Send a message and return the answer; see :meth:`stream`."""
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
        """Send a message and yield the answer piece by piece.

        The round starts when the first piece is requested. `cancel`, closing the iterator and Ctrl-C cancel it: the
        text so far becomes an answer with `cancelled` set. If there is no text yet, or if the round fails, the dialogue
        does not change.

        Args:
            text: The user's message.
            images: A picture or a list of them, each as `load_image` takes it; they come before the text.
            cancel: When set, from any thread, the round ends within one token.
            draw: Whether to ask for a picture with the released models' marker.
            **options: Options of `generate` for this round, and `seed`, which makes sampling repeatable.
                `max_new_tokens` is 512 by default, or less if the context has less room.

        Yields:
            Pieces of the answer, without white space at either end.

        Raises:
            ImageError: If a picture cannot be read.
            ContextOverflowError: If the dialogue leaves no room for the answer. Nothing is computed then.
            MgemError: If another round of this conversation is still running.
        """
        pictures = list(images) if isinstance(images, (list, tuple)) else [images]
        with self._busy():
            try:
                image_keys = tuple(self._cache.images.add(picture) for picture in pictures)
                question = _question(text, pictures, draw)
                yield from self._answer(question, image_keys, cancel, {**self.generation_defaults, **options})
            finally:
                self._cache.images.retain({key for each in self._rounds for key in each.image_keys})

    def undo(self, rounds: int = 1) -> None:
        """Remove the last rounds, each with question and answer.

        Args:
            rounds: Number of rounds to remove.

        Raises:
            InputError: If the dialogue has fewer rounds.
        """
        with self._busy():
            if not 1 <= rounds <= len(self._rounds):
                raise InputError(f"Cannot undo {rounds} round(s): the dialogue has {len(self._rounds)}.")
            del self._rounds[-rounds:]

    def reset(self) -> None:
        """Remove all rounds; the system message stays."""
        with self._busy():
            self._rounds.clear()
            self._cache.reset()
            self._usage = self._finish_reason = None

    def fork(self) -> Conversation:
        """Return an independent copy of this conversation; the cache is copied, encoded images are shared."""
        with self._busy():
            twin = Conversation(self.model, self.processor, **self.generation_defaults)
            twin._system, twin._rounds = list(self._system), list(self._rounds)
            twin._cache, twin._usage = self._cache.copy(), self._usage
            twin._finish_reason = self._finish_reason
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

    def _prompt(
        self, rounds: Sequence[_Round], asked: tuple[dict[str, Any], tuple[int, ...]] | None = None
    ) -> DialoguePrompt:
        """Render rounds and an unanswered question."""
        messages = [*self._system, *(message for each in rounds for message in (each.question, each.answer))]
        image_keys = [key for each in rounds for key in each.image_keys]
        if asked is not None:
            messages.append(asked[0])
            image_keys += asked[1]
        return self._cache.prompt(messages, image_keys, is_asked=asked is not None)

    def _answer(
        self,
        question: dict[str, Any],
        image_keys: tuple[int, ...],
        cancel: threading.Event | None,
        options: dict[str, Any],
    ) -> Iterator[str]:
        """Run a round under the lock and add it to the dialogue."""
        prompt = self._prompt(self._rounds, (question, image_keys))
        answer = self._cache.answer(prompt, options)
        said: list[str] = []  # yielded to the caller

        def join(*, is_cancelled: bool) -> None:
            text = "".join(said)
            if is_cancelled and not text:
                return
            message = {"role": "assistant", "content": text} | ({"cancelled": True} if is_cancelled else {})
            self._rounds.append(_Round(question, message, image_keys))
            self._finish_reason = "cancelled" if is_cancelled else answer.finish_reason
            self._usage = RoundUsage(
                len(prompt.input_ids), prompt.num_image_tokens, answer.num_cached, len(answer.produced)
            )

        try:
            with closing(answer.stream(cancel)) as pieces:
                for piece in trimmed(pieces):
                    said.append(piece)
                    yield piece
        except Exception:
            raise  # the dialogue does not change
        except BaseException:  # Ctrl-C, or the iterator is closed
            join(is_cancelled=True)
            raise
        join(is_cancelled=cancel is not None and cancel.is_set() and answer.finish_reason == "cancelled")


def _question(text: str, pictures: Sequence[Any], draw: bool) -> dict[str, Any]:
    content: Any = text
    if pictures:
        content = [*({"type": "image", "image": picture} for picture in pictures), {"type": "text", "text": text}]
    return {"role": "user", "content": content} | ({"draw": True} if draw else {})


def _copied(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message["content"]
    return {**message, "content": content if isinstance(content, str) else [dict(part) for part in content]}
