"""A llama.cpp server as the alternative of a benchmark: its greedy tokens, and the seconds that it measured itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from mgem_agent.errors import GeneratorOutputError
from mgem_agent.tools.servers.http_client import ServerClient

__all__ = ["LlamaCppAnswer", "LlamaCppServer"]


@dataclass(frozen=True)
class LlamaCppAnswer:
    """An answer of the server.

    Attributes:
        tokens: Its token ids, without a stop token.
        seconds: From the first token to the last, by the server's clock.
    """

    tokens: tuple[int, ...]
    seconds: float


class LlamaCppServer:
    """A running `llama-server`, or another server of llama.cpp with its `/completion` endpoint.

    Args:
        address: Its address, such as `http://127.0.0.1:8080`.

    Attributes:
        name: The file of its weights.

    Raises:
        InputError: If the address is not valid.
        GeneratorError: If there is no such server.
    """

    def __init__(self, address: str) -> None:
        self._client = ServerClient(address, server="The llama.cpp server")
        state = self._client.request_json("GET", "/props")
        path = state.get("model_path") if isinstance(state, dict) else None
        self.name = f"llama.cpp {PurePath(path).name}" if path else f"llama.cpp at {self._client.address}"

    def answer(self, prompt: Sequence[int], *, max_tokens: int, stop: Collection[int] = ()) -> LlamaCppAnswer:
        """Continue a prompt greedily.

        Args:
            prompt: Token ids.
            max_tokens: Length of the answer in tokens.
            stop: Ids that end the answer earlier; none makes it as long as asked.

        Raises:
            GeneratorOutputError: If the answer has no tokens or times.
            GeneratorError: If the request fails.
        """
        body = {
            "prompt": list(prompt),
            "n_predict": max_tokens,
            "temperature": 0,
            "samplers": ["temperature"],  # greedy, without its penalties
            "ignore_eos": not stop,
            "return_tokens": True,
            "cache_prompt": True,
        }
        found: Any = self._client.request_json("POST", "/completion", json=body)
        try:
            tokens = [int(token) for token in found["tokens"]]
            seconds = float(found["timings"]["predicted_ms"]) / 1e3
        except (KeyError, TypeError, ValueError) as error:
            raise GeneratorOutputError(
                f"{self.name} answered without 'tokens' and 'timings'. Use a llama.cpp server of 2025 or newer.",
                retryable=False,
            ) from error
        ended = next((place for place, token in enumerate(tokens) if token in stop), len(tokens))
        return LlamaCppAnswer(tuple(tokens[:ended]), seconds)
