"""Many requests to a chat model at the same time, within a rate and a cost.

Requests run in threads, because they only wait for a server. A failed request is tried again with growing pauses. When
the next request might pass the cost, or many requests in a row fail, no further one is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import RunnableLambda

from mgem_agent.errors import InputError

__all__ = ["Requests", "TeacherLimits", "num_tokens"]

Key = TypeVar("Key")

_LONGEST_PAUSE_S = 60.0  # the first is one or two seconds
_RATE_CHECK_S = 0.05
_CHARS_PER_TOKEN = 4
_GUESSED_ANSWER_TOKENS = 300


@dataclass(frozen=True)
class TeacherLimits:
    """Limits of the requests.

    Args:
        max_concurrency: Maximum number of requests at the same time.
        requests_per_minute: Maximum rate of requests, further attempts included; None for no limit.
        max_cost: Maximum cost of all runs for a file together; None for no limit. It needs prices.
        input_price: Price of a million input tokens.
        output_price: Price of a million output tokens.
        max_attempts: Maximum number of attempts of a request.
        max_failures: Number of failed requests in a row after which no further one is made.

    Raises:
        InputError: If a number is out of its range, or there is a maximum cost without a price.
    """

    max_concurrency: int = 4
    requests_per_minute: float | None = None
    max_cost: float | None = None
    input_price: float = 0.0
    output_price: float = 0.0
    max_attempts: int = 4
    max_failures: int = 20

    def __post_init__(self) -> None:
        for name in ("max_concurrency", "max_attempts", "max_failures"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)!r}. Give 1 or more.")
        for name in ("requests_per_minute", "max_cost"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"{name} is {value!r}. Give more than 0, or None for no limit.")
        if min(self.input_price, self.output_price) < 0:
            raise InputError("A price is negative. Give 0 or more.")
        if self.max_cost is not None and not (self.input_price or self.output_price):
            raise InputError("A maximum cost needs a price. Give the prices of a million input and output tokens.")

    def cost(self, num_input_tokens: int, num_output_tokens: int) -> float:
        """Return the cost of tokens."""
        return (num_input_tokens * self.input_price + num_output_tokens * self.output_price) / 1e6


def num_tokens(prompt: str, answer: AIMessage) -> tuple[int, int]:
    """Return the input and output tokens of a request: as the model counts them, else four characters a token."""
    if answer.usage_metadata is not None:
        return answer.usage_metadata["input_tokens"], answer.usage_metadata["output_tokens"]
    return len(prompt) // _CHARS_PER_TOKEN, len(str(answer.text)) // _CHARS_PER_TOKEN


class Requests:
    """Requests to a chat model.

    Args:
        model: The model.
        limits: Their limits.
        spent: Cost of earlier runs.

    Attributes:
        spent: Cost of all requests that were answered, and of earlier runs.
        stopped_by: Why no further request was made; empty if all were.
    """

    def __init__(self, model: BaseChatModel, limits: TeacherLimits, spent: float = 0.0) -> None:
        self.spent = spent
        self.stopped_by = ""
        self._limits = limits
        self._largest = 0.0
        self._failures = 0
        rate = limits.requests_per_minute
        self._limiter = None if rate is None else InMemoryRateLimiter(
            requests_per_second=rate / 60, check_every_n_seconds=_RATE_CHECK_S, max_bucket_size=1
        )  # fmt: skip

        def ask(prompt: str) -> Any:
            if self._limiter is not None:
                self._limiter.acquire()
            return model.invoke(prompt)

        self._ask = RunnableLambda(ask).with_retry(
            stop_after_attempt=limits.max_attempts,
            exponential_jitter_params={"max": _LONGEST_PAUSE_S},
        )

    def answers(self, prompts: Sequence[tuple[Key, str]]) -> Iterator[tuple[Key, AIMessage | Exception]]:
        """Make requests, and yield the answers as they come.

        Args:
            prompts: A key and the prompt of each request.

        Yields:
            The key, and the answer or why the last attempt failed.
        """
        waiting: dict[Future[Any], tuple[Key, str]] = {}
        with ThreadPoolExecutor(self._limits.max_concurrency) as pool:
            try:
                for key, prompt in prompts:
                    while waiting and (len(waiting) >= self._limits.max_concurrency or self._is_over(prompt, waiting)):
                        yield from self._done(waiting)
                    if self._is_over(prompt, waiting) or self.stopped_by:
                        break
                    waiting[pool.submit(self._ask.invoke, prompt)] = key, prompt
                while waiting:
                    yield from self._done(waiting)
            finally:
                pool.shutdown(cancel_futures=True)

    def _is_over(self, prompt: str, waiting: dict[Future[Any], Any]) -> bool:
        """Return whether another request might pass the maximum cost."""
        if self._limits.max_cost is None:
            return False
        guessed = self._limits.cost(len(prompt) // _CHARS_PER_TOKEN, _GUESSED_ANSWER_TOKENS)
        is_over = self.spent + (len(waiting) + 1) * max(self._largest, guessed) > self._limits.max_cost
        if is_over and not waiting and not self.stopped_by:
            self.stopped_by = f"the next request might pass the maximum cost of {self._limits.max_cost:g}"
        return is_over

    def _done(self, waiting: dict[Future[Any], tuple[Key, str]]) -> Iterator[tuple[Key, AIMessage | Exception]]:
        """Wait for at least one request, and yield those that are done."""
        done, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            key, prompt = waiting.pop(future)
            error = future.exception()
            if error is not None and not isinstance(error, Exception):
                raise error
            self._failures = self._failures + 1 if error is not None else 0
            if self._failures >= self._limits.max_failures:
                self.stopped_by = self.stopped_by or f"{self._failures} requests in a row failed"
            if error is None:
                cost = self._limits.cost(*num_tokens(prompt, future.result()))
                self.spent, self._largest = self.spent + cost, max(self._largest, cost)
            yield key, error or future.result()
