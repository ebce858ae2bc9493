"""One question to the reasoner of a running server, with the interface of `core_model.Conversation`."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from mgem_agent.chat_models.text_engine import FinishReason, TextEnd, TextRequest
from mgem_agent.core_model.dialogue.trimming import trimmed
from mgem_agent.resident.text_engine import make_resident_engine

__all__ = ["ResidentConversation"]


class ResidentConversation:
    """Asks questions; each is a dialogue of its own.

    Args:
        address: Address of the server.

    Attributes:
        usage: How the last answer ended, with its tokens; None before.
        finish_reason: Why the last answer ended; None before.

    Raises:
        MgemError: If the model cannot be loaded there, or the server cannot be reached.
    """

    def __init__(self, address: str) -> None:
        self._engine = make_resident_engine(address)
        self.usage: TextEnd | None = None
        self.finish_reason: FinishReason | None = None

    def stream(
        self,
        text: str,
        images: Sequence[Any] = (),
        *,
        max_new_tokens: int | None = None,
        seed: int | None = None,
        temperature: float | None = None,
        **sampling: Any,
    ) -> Iterator[str]:
        """Ask a question, and yield the answer piece by piece, without white space at either end.

        Args:
            text: The question.
            images: Pictures, as `load_image` takes them.
            max_new_tokens: Maximum length of the answer in tokens; None for the model's default.
            seed: Seed for sampling.
            temperature: Sampling temperature; None for greedy decoding.
            **sampling: Further options of `generate`.

        Raises:
            MgemError: As for the model itself, or if the server fails.
        """
        content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": text}]
        cancel = threading.Event()
        request = TextRequest(
            [{"role": "user", "content": content}],
            max_tokens=max_new_tokens,
            temperature=temperature or 0,
            seed=seed,
            options={name: value for name, value in sampling.items() if value is not None and name != "do_sample"},
            cancel=cancel,
        )

        def pieces() -> Iterator[str]:
            for event in self._engine.stream(request):
                if isinstance(event, TextEnd):
                    self.usage, self.finish_reason = event, event.finish_reason
                else:
                    yield event

        try:
            yield from trimmed(pieces())
        finally:
            cancel.set()
