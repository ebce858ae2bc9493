"""A chat model whose answers come from Ray actors, each with a model of its own.

It is for work whose limits are global, such as a rate or a maximum cost: whoever asks counts in one place and decides
on each request, which a pipeline of Ray Data does not allow. A request goes to an actor with a free slot. An actor that
is lost is started again, and its requests are repeated.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

from mgem_agent.errors import MgemError, ReasonerError, ReasonerUnavailableError
from mgem_agent.scale.ray_cluster import RayOptions, connected

__all__ = ["RayReasoner", "ReasonerActor", "ray_reasoner"]

MAX_LOSSES = 2
"""How often a request is repeated after its actor was lost."""

MakeReasoner = Callable[[], BaseChatModel]
Ask = Callable[[Sequence[BaseMessage], list[str] | None], AIMessage | dict[str, Any]]


class ReasonerActor:
    """What an actor runs: a chat model, which is created at the first request.

    Args:
        make: Creates the model.
    """

    def __init__(self, make: MakeReasoner) -> None:
        self._make = make
        self._made: BaseChatModel | None = None

    def answer(self, messages: Sequence[BaseMessage], stop: list[str] | None) -> AIMessage | dict[str, Any]:
        """Return the answer; or what went wrong, because not every error can be sent to another process."""
        try:
            if self._made is None:
                self._made = self._make()
            return self._made.invoke(list(messages), stop=stop)
        except Exception as error:  # it is raised again by `RayReasoner`
            told = str(error) if isinstance(error, MgemError) else f"{type(error).__name__}: {error}"
            return {"error": told, "retryable": bool(getattr(error, "retryable", False))}


class RayReasoner(BaseChatModel):
    """The chat model in front of the actors; `ray_reasoner` creates it. It may be used by many threads."""

    _ask: Ask = PrivateAttr()

    def __init__(self, ask: Ask, **fields: Any) -> None:
        super().__init__(**fields)
        self._ask = ask

    @property
    def _llm_type(self) -> str:
        return "ray"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        """Return the answer of an actor.

        Raises:
            ReasonerError: If the model failed; its message is that of the actor.
        """
        answer = self._ask(messages, stop)
        if isinstance(answer, dict):
            raise ReasonerError(answer["error"], retryable=answer["retryable"])
        return ChatResult(generations=[ChatGeneration(message=answer)])


@contextmanager
def ray_reasoner(make: MakeReasoner, options: RayOptions, *, max_concurrency: int) -> Iterator[RayReasoner]:
    """Start actors inside a `with` block.

    Args:
        make: Creates the chat model in each actor.
        options: Where, and how many.
        max_concurrency: Maximum number of requests at the same time, over all actors.

    Yields:
        The chat model.

    Raises:
        MissingDependencyError: If the extra `ray` is not installed.
        ToolError: If the cluster cannot be reached.
    """
    with connected(options) as ray:
        num_actors = min(options.num_workers, max_concurrency)
        num_slots = -(-max_concurrency // num_actors)
        actor_class = ray.remote(
            max_restarts=-1, max_task_retries=MAX_LOSSES, max_concurrency=num_slots, **options.of_a_worker
        )(ReasonerActor)
        actors = [actor_class.remote(make) for _ in range(num_actors)]
        free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(num_slots):
            for actor in actors:
                free.put(actor)

        def ask(messages: Sequence[BaseMessage], stop: list[str] | None) -> AIMessage | dict[str, Any]:
            actor = free.get()
            try:
                answer: AIMessage | dict[str, Any] = ray.get(actor.answer.remote(messages, stop))
                return answer
            except ray.exceptions.RayError as error:
                raise ReasonerUnavailableError(
                    f"The worker that answered was lost {MAX_LOSSES + 1} times ({type(error).__name__}). Its memory "
                    "may be too small; see the logs of Ray.",
                    retryable=True,
                ) from error
            finally:
                free.put(actor)

        try:
            yield RayReasoner(ask)
        finally:
            for actor in actors:
                ray.kill(actor)
