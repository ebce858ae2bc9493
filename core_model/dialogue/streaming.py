"""Streaming generation: pieces of text while the model still generates.

`generate` runs in a thread of its own and hands each token to the caller's iterator. Decisions that matter:

- **Errors pass through.** The iterator raises the thread's exceptions at once; nothing waits for a time-out.
- **The iterator owns the thread.** When it ends, is closed, is interrupted by Ctrl-C or is deleted, generation stops
  within one token and the thread is joined.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from mgem_agent.core_model.dialogue.text_decoder import TextDecoder
from mgem_agent.core_model.prompts.templates import prompt_template_stop_tokens
from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration
    from mgem_agent.core_model.processing import MiniGeminiProcessor

__all__ = ["Stop", "ending_options", "input_device", "seeded", "stop_token_ids", "stream_generate", "stream_tokens"]

_SEEDED_ANSWERS = threading.Lock()
"""One seeded answer at a time: torch's random state belongs to the whole process."""


def stream_generate(
    model: MiniGeminiForConditionalGeneration,
    processor_or_tokenizer: MiniGeminiProcessor | PreTrainedTokenizerBase,
    inputs: Mapping[str, Any],
    *,
    cancel: threading.Event | None = None,
    seed: int | None = None,
    **options: Any,
) -> Generator[str, None, None]:
    """Continue one prompt and yield the text piece by piece.

    Generation starts when the first piece is requested. Closing the iterator stops generation within one token.

    Args:
        model: The model; other iterators may use it at the same time.
        processor_or_tokenizer: The processor or tokenizer that made the inputs.
        inputs: One prompt with its images, as the processor returns it.
        cancel: When set, from any thread, generation stops within one token, and the iterator ends.
        seed: Makes sampling repeatable. It sets the random state of the process while the answer is generated, so
            random numbers drawn by other threads disturb it.
        **options: As in `generate`: `max_new_tokens`, `do_sample`, `temperature`, ... `eos_token_id` defaults to
            :func:`stop_token_ids`.

    Yields:
        Non-empty pieces of text; joined, they are the answer without special tokens.

    Raises:
        InputError: If the inputs hold more than one prompt.
        ContextOverflowError: If the prompt and the requested tokens do not fit the language model's context.
    """
    num_prompts = len(inputs["input_ids"])
    if num_prompts != 1:
        raise InputError(f"One prompt can be streamed at a time, got {num_prompts}. Stream them one by one.")
    options = ending_options(model, processor_or_tokenizer, options)
    stop_ids = options["eos_token_id"]
    criteria = options.pop("stopping_criteria", None) or []
    device = input_device(model)
    placed: dict[str, Any] = {
        name: value.to(device) if isinstance(value, Tensor) else value for name, value in inputs.items()
    }

    def produce(streamer: BaseStreamer, stop: StoppingCriteria) -> None:
        with seeded(seed, device):
            model.generate(
                **placed, **options, streamer=streamer, stopping_criteria=StoppingCriteriaList([stop, *criteria])
            )

    with closing(stream_tokens(produce, cancel=cancel)) as tokens:
        decoder = TextDecoder(_tokenizer_of(processor_or_tokenizer))
        yield from decoder.decode(token for token in tokens if token not in stop_ids)


def stream_tokens(
    produce: Callable[[BaseStreamer, Stop], object], *, cancel: threading.Event | None = None
) -> Generator[int, None, None]:
    """Run a generation in a thread and yield its token ids as they come.

    Args:
        produce: Called in the thread. It must pass both arguments on to `generate`, and may ask `stop.is_set()` between
            steps of its own.
        cancel: When set, the thread is told to stop.

    Yields:
        Ids of the new tokens, without the prompt.

    Raises:
        BaseException: Any exception that `produce` raised.
    """
    arrived: queue.SimpleQueue[list[int] | _Finished] = queue.SimpleQueue()
    closed = threading.Event()
    stop = Stop(closed, *([cancel] if cancel is not None else []))

    def run() -> None:
        try:
            produce(_Relay(arrived.put), stop)
        except BaseException as error:
            arrived.put(_Finished(error))
        else:
            arrived.put(_Finished(None))

    # The thread gets the caller's context variables, so that tracing and callbacks work.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="mgem-generate", daemon=True)
    if stop.is_set():
        return
    thread.start()
    try:
        while isinstance(item := arrived.get(), list):
            yield from item
        if item.error is not None:
            raise item.error
    finally:
        closed.set()
        thread.join()


@dataclass(frozen=True)
class _Finished:
    """The last item from the thread, with its exception."""

    error: BaseException | None


class Stop(StoppingCriteria):
    """Stop as soon as one of some events is set."""

    def __init__(self, *events: threading.Event) -> None:
        self.events = events

    def is_set(self) -> bool:
        """Return whether generation must stop."""
        return any(event.is_set() for event in self.events)

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        """Return (b,), true for each prompt that must stop."""
        return torch.full((input_ids.shape[0],), self.is_set(), dtype=torch.bool, device=input_ids.device)


class _Relay(BaseStreamer):
    """Pass new tokens on; the first value from `generate` is the prompt."""

    def __init__(self, send: Callable[[list[int]], None]) -> None:
        self.send = send
        self.has_seen_prompt = False

    def put(self, value: Tensor) -> None:
        """Take the prompt (1, l), then tokens (1,)."""
        if value.dim() and value.shape[0] > 1 and (value.dim() > 1 or self.has_seen_prompt):
            raise InputError(
                f"One answer can be streamed at a time, got {value.shape[0]}. Leave num_return_sequences at 1."
            )
        if self.has_seen_prompt:
            self.send(value.flatten().tolist())
        self.has_seen_prompt = True

    def end(self) -> None:
        """Do nothing: the end of the thread ends the stream."""


def stop_token_ids(
    model: MiniGeminiForConditionalGeneration, processor_or_tokenizer: MiniGeminiProcessor | PreTrainedTokenizerBase
) -> list[int]:
    """Return the ids that end an answer: those of the generation configuration, the tokenizer and the dialogue format.

    Args:
        model: The model.
        processor_or_tokenizer: A processor knows its dialogue format; with a tokenizer it is that of the model.
    """
    ids = set(_as_ids(model.generation_config.eos_token_id))
    own: list[int] | None = getattr(processor_or_tokenizer, "stop_token_ids", None)
    if own is None:
        tokenizer = _tokenizer_of(processor_or_tokenizer)
        vocabulary = tokenizer.get_vocab()
        tokens = (tokenizer.eos_token, *prompt_template_stop_tokens(model.config.prompt_template))
        own = [vocabulary[token] for token in tokens if token in vocabulary]
    return sorted(ids.union(own))


def ending_options(
    model: MiniGeminiForConditionalGeneration,
    processor_or_tokenizer: MiniGeminiProcessor | PreTrainedTokenizerBase,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return options of `generate` with the stop tokens filled in.

    Args:
        model: The model.
        processor_or_tokenizer: The processor or tokenizer that made the prompt.
        options: Options of `generate`. `eos_token_id` becomes a list.
    """
    given = options.get("eos_token_id")
    stop_ids = _as_ids(given) if given is not None else stop_token_ids(model, processor_or_tokenizer)
    completed = {**options, "eos_token_id": stop_ids}
    if stop_ids and model.generation_config.pad_token_id is None:
        completed.setdefault("pad_token_id", stop_ids[0])  # otherwise generate logs that it does this
    if options.get("stop_strings"):
        completed.setdefault("tokenizer", _tokenizer_of(processor_or_tokenizer))
    return completed


@contextmanager
def seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Draw random numbers from a seed, then restore the random state; None changes nothing.

    Args:
        seed: The seed.
        device: The device that draws the numbers.
    """
    if seed is None:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with _SEEDED_ANSWERS, torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def input_device(model: MiniGeminiForConditionalGeneration) -> torch.device:
    """Return the device for the model's inputs, also with offloaded weights."""
    embedding: Any = model.get_input_embeddings()
    device: torch.device = embedding.weight.device
    return torch.device("cpu") if device.type == "meta" else device


def _tokenizer_of(processor_or_tokenizer: Any) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = getattr(processor_or_tokenizer, "tokenizer", processor_or_tokenizer)
    return tokenizer


def _as_ids(value: int | Iterable[int] | Tensor | None) -> list[int]:
    if value is None:
        return []
    if isinstance(value, Tensor):
        value = value.flatten().tolist()
    return [value] if isinstance(value, int) else list(value)
