"""A chat model for OpenAI-compatible APIs: OpenAI, vLLM, SGLang, llama.cpp, LM Studio and many others.

`ChatOpenAI` is written for OpenAI's own servers. This class adds what other servers need:

- **Usage is requested** (`stream_options.include_usage`). If a server rejects the option, the request is repeated
  without it, and later requests leave it out.
- **A stream that ends without a finish reason was interrupted**, and raises an error.
- **A refusal in a stream is kept** in `additional_kwargs["refusal"]`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_openai import ChatOpenAI
from pydantic import PrivateAttr

from mgem_agent.chat_models.reasoner_errors import address_of, refuses_usage
from mgem_agent.errors import ReasonerOutputError

__all__ = ["OpenAIProtocolChat"]


class OpenAIProtocolChat(ChatOpenAI):
    """A chat model with an OpenAI-compatible API; its fields are those of `ChatOpenAI`."""

    _refuses_usage: bool = PrivateAttr(default=False)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        given = {"stop": stop, "run_manager": run_manager, **kwargs}
        if self._use_responses_api({**kwargs, **self.model_kwargs}):
            yield from super()._stream(messages, **given)
            return
        if self.stream_usage is None and "stream_usage" not in given:
            given["stream_usage"] = not self._refuses_usage
        has_begun = is_complete = False
        try:
            for chunk in super()._stream(messages, **given):
                has_begun = True
                is_complete = is_complete or bool((chunk.generation_info or {}).get("finish_reason"))
                yield chunk
        except Exception as error:
            if has_begun or not given.get("stream_usage") or not refuses_usage(error):
                raise
            self._refuses_usage = True
        else:
            self._check(has_begun, is_complete)
            return
        yield from self._stream(messages, **{**given, "stream_usage": False})

    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], default_chunk_class: type, base_generation_info: dict[str, Any] | None
    ) -> ChatGenerationChunk | None:
        made = super()._convert_chunk_to_generation_chunk(chunk, default_chunk_class, base_generation_info)
        choices = chunk.get("choices") or [{}]
        refusal = (choices[0].get("delta") or {}).get("refusal")
        if refusal and made is not None and isinstance(made.message, AIMessageChunk):
            made.message.additional_kwargs["refusal"] = refusal
        return made

    def _check(self, has_begun: bool, is_complete: bool) -> None:
        """Check that the response is a complete answer.

        Raises:
            ReasonerOutputError: If it is not.
        """
        where = f"The server at {address_of(self) or 'api.openai.com'}"
        if not has_begun:
            raise ReasonerOutputError(
                f"{where} sent no answer. Check the address: that of an OpenAI-compatible API ends in /v1."
            )
        if not is_complete:
            raise ReasonerOutputError(
                f"{where} ended its answer early. Try again, or see the server's log.", retryable=True
            )
