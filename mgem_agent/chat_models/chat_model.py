"""The base class of this package's LangChain chat models: the `<GEN>` protocol on top of a text engine.

Subclasses differ only in the engine and the description of the model. Key decisions:

- **A caption is a tool call** of `generate_image`, streamed as soon as it is closed, also if no tools are bound. Its
  tags are never shown.
- **Unknown options raise an error**; they are not ignored.
- **Cancelling stops the engine within one token**: by a `cancel` event, by closing the stream, or by cancelling the
  task.
- The engine may be called from any number of threads; the chat model keeps no state of a turn.
"""

from __future__ import annotations

import asyncio
import threading
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import agenerate_from_stream, generate_from_stream
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough, ensure_config
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import ConfigDict, Field, SecretStr, field_validator

from mgem_agent.chat_models.answer_grammar import text_grammar
from mgem_agent.chat_models.answer_stream import ProtocolTurn, TurnPlan
from mgem_agent.chat_models.langchain_messages import ImageResolver, dialogue_from_messages, tools_called, user_text
from mgem_agent.chat_models.text_engine import (
    ChoosingEngine,
    PromptSize,
    SizingEngine,
    TextEngine,
    TextRequest,
    TurnCancel,
    follows_grammar,
)
from mgem_agent.chat_models.thought_tags import holds_answer, learn_tag
from mgem_agent.chat_models.thoughts import THOUGHT_END, without_thoughts
from mgem_agent.chat_models.tool_choice import (
    plan_grammar,
    plan_json,
    plan_tools,
    read_response_format,
    read_tool_choice,
)
from mgem_agent.errors import InputError
from mgem_agent.gen.markup import clean_caption
from mgem_agent.gen.tool_calls import DrawMode, check_draw_defaults

__all__ = ["GenProtocolModel"]

_CALL_OPTIONS = frozenset(
    {
        "cancel", "draw", "draw_defaults", "generation_options", "grammar", "max_tokens", "model", "response_format",
        "seed", "temperature", "thread_id", "timeout", "tool_choice", "tools", "top_p",
    }
)  # fmt: skip
_UNUSED_OPTIONS = frozenset({"ls_structured_output_format", "parallel_tool_calls", "strict"})
"""Options that LangChain itself passes, for tracing or for servers with constrained decoding. They are ignored."""

_METHODS = ("function_calling", "json_schema", "json_mode")


class GenProtocolModel(BaseChatModel):
    """A chat model that uses the `<GEN>` protocol on top of a text engine.

    Options of a call, besides `stop`: `draw`, `draw_defaults`, `cancel` (a `threading.Event`), `thread_id`, `model`,
    and the fields `temperature`, `top_p`, `max_tokens`, `seed`, `timeout`, `generation_options`, `grammar`.
    Inside LangGraph, the thread id of the run's configuration is used.

    Attributes:
        temperature: Sampling temperature; 0 is greedy decoding, None is the model's default.
        top_p: Probability mass for nucleus sampling.
        max_tokens: Maximum number of tokens in an answer.
        seed: Seed for sampling.
        timeout: Time limit of an answer in seconds.
        stop: Stop strings; they end an answer and are not part of it.
        draw: When captions become calls: `auto`, if the model writes one; `always`, in every answer: a missing caption
            is requested from the model; `never`.
        draw_defaults: Default fields of every `ImageRequest`, other than `prompt`.
        image_resolver: Returns the picture for a block's `file_id`, as accepted by `load_image`.
        generation_options: Further options, by the engine's names.
        grammar: A grammar that answers follow, in llguidance's Lark. Nothing is drawn then, and no tool is called.
            Only for models that run in this process; see `follows_grammar`.
        max_retries: Accepted for compatibility and ignored.
        streaming: Accepted for compatibility and ignored; all answers are streamed internally.
        api_key: Accepted for compatibility and ignored; no key is needed.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = None
    timeout: float | None = Field(default=None, gt=0)
    stop: list[str] | None = None
    draw: DrawMode = "auto"
    draw_defaults: dict[str, Any] = Field(default_factory=dict)
    image_resolver: ImageResolver | None = Field(default=None, exclude=True, repr=False)
    generation_options: dict[str, Any] = Field(default_factory=dict)
    grammar: str | None = None
    max_retries: int | None = None
    streaming: bool = False
    api_key: SecretStr | None = Field(default=None, exclude=True)

    @field_validator("draw_defaults")
    @classmethod
    def _check_defaults(cls, value: dict[str, Any]) -> dict[str, Any]:
        check_draw_defaults(value)
        return value

    @abstractmethod
    def text_engine(self, model_name: str) -> TextEngine:
        """Return the text engine; called once for each answer, from any thread.

        Args:
            model_name: Name of the model.
        """

    @abstractmethod
    def default_model_name(self) -> str:
        """Return the name of the model that is used if a call names none."""

    def fixed_instructions(self) -> Sequence[str]:
        """Return instructions that are added to the system message of every dialogue."""
        return ()

    def may_think(self) -> bool:
        """Return whether an answer may begin with thinking that has no opening tag."""
        return True

    def prompt_size(self, messages: Sequence[BaseMessage], **options: Any) -> PromptSize | None:
        """Return the size of a prompt in tokens; None if only the engine's server knows it.

        Args:
            messages: Messages of the prompt.
            **options: Options of the call.
        """
        plan = self._plan(list(messages), None, options)
        return plan.engine.prompt_size(plan.request) if isinstance(plan.engine, SizingEngine) else None

    def choice_probabilities(
        self, messages: Sequence[BaseMessage], choices: Sequence[str], **options: Any
    ) -> list[float] | None:
        """Return how likely the answer begins with each of some words; None where the engine cannot tell.

        Args:
            messages: A question to be answered by one word.
            choices: Words, in small letters; see `ChoosingEngine`.
            **options: Options of the call.

        Raises:
            GenerationCancelledError: If it is cancelled.
            MgemError: As for an answer.
        """
        engine = self.text_engine(str(options.get("model") or self.default_model_name()))
        if not isinstance(engine, ChoosingEngine):
            return None
        plan = self._plan(list(messages), None, {**options, "draw": "never"})
        cancel = TurnCancel(plan.cancel)
        return engine.choice_probabilities(replace(plan.request, cancel=cancel), choices)

    def probability_of_yes(self, messages: Sequence[BaseMessage], **options: Any) -> float | None:
        """Return how much likelier the answer begins with yes than with no; None where the engine cannot tell.

        Args:
            messages: A question to be answered by yes or no.
            **options: Options of the call.

        Returns:
            The next token's probability of yes, divided by those of yes and no together.

        Raises:
            GenerationCancelledError: If it is cancelled.
            MgemError: As for an answer.
        """
        found = self.choice_probabilities(messages, ("yes", "no"), **options)
        if found is None:
            return None
        yes, no = found
        return yes / (yes + no) if yes + no > 0 else None

    def accepts_urls(self) -> bool:
        """Return whether the engine accepts web addresses of pictures."""
        return False

    def follows_grammar(self) -> bool:
        """Return whether answers can follow a grammar. This loads the engine."""
        return follows_grammar(self.text_engine(self.default_model_name()))

    def needs_grammar(self) -> bool:
        """Return whether the model loses the thread without a grammar; a large model writes better freely."""
        return False

    def auto_draw_mode(self, messages: Sequence[BaseMessage]) -> DrawMode:
        """Return what the mode `auto` means for a dialogue; by default the model decides as it writes.

        Args:
            messages: The dialogue.
        """
        return "auto"

    def caption_start(self, messages: Sequence[BaseMessage]) -> str:
        """Return words that the caption of a required drawing begins with; by default the model writes all of it.

        Args:
            messages: The dialogue.
        """
        return ""

    def auto_tool_choice(self, messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, Any]]) -> str:
        """Return what the tool choice `auto` means for a dialogue; by default the model decides as it writes.

        Args:
            messages: The dialogue.
            tools: The bound tools, in OpenAI's form.
        """
        return "auto"

    def forbids_tags(self) -> bool:
        """Return whether an engine that can holds an answer that is not to be drawn to words, without any tag."""
        return False

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        names = ("temperature", "top_p", "max_tokens", "seed", "stop", "draw", "draw_defaults", "generation_options")
        return {"model": self.default_model_name(), **{name: getattr(self, name) for name in names}}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        named = {"model": self.default_model_name(), **kwargs}
        return {**super()._get_ls_params(stop=stop or self.stop, **named), "ls_provider": "mini-gemini"}

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return this model with tools.

        The model calls `generate_image` by writing a caption. Other tools are described in the prompt and called in
        JSON, which is not reliable with small models; if a call is required, its beginning is prefilled.

        Args:
            tools: Tools in any format that LangChain accepts.
            tool_choice: `auto`, `any`, `none`, the name of a tool, a boolean, or OpenAI's dictionary.
            **kwargs: Options of a call.

        Raises:
            InputError: If `tool_choice` names a tool that is not bound.
        """
        formatted = [convert_to_openai_tool(tool) for tool in tools]
        if tool_choice is not None:
            names = [tool["function"]["name"] for tool in formatted]
            kwargs["tool_choice"] = read_tool_choice(tool_choice, names)
        return self.bind(tools=formatted, **kwargs)

    def with_structured_output(
        self, schema: Any = None, *, method: str = "function_calling", include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Return this model with structured output.

        Args:
            schema: A pydantic class, a TypedDict, a JSON schema, or None for `json_mode`.
            method: `function_calling` and `json_schema` put the schema into the prompt and prefill the answer;
                `json_mode` prefills a JSON object, and your prompt must describe its fields.
            include_raw: Whether to also return the message, and to return errors instead of raising them.
            **kwargs: `strict` is accepted; answers are always validated.

        Raises:
            InputError: If the method is unknown.
        """
        if method not in _METHODS:
            raise InputError(f"method is {method!r}. Allowed: {', '.join(map(repr, _METHODS))}.")
        if method != "json_mode":
            return super().with_structured_output(schema, include_raw=include_raw, **kwargs)
        is_class = isinstance(schema, type) and is_basemodel_subclass(schema)
        parser: Any = PydanticOutputParser(pydantic_object=schema) if is_class else JsonOutputParser()
        model = self.bind(response_format={"type": "json_object"})
        last = RunnableLambda(lambda message: parser.invoke(message))  # parses the complete answer only
        if not include_raw:
            return model | last
        parsed = RunnablePassthrough.assign(
            parsed=lambda found: last.invoke(found["raw"]), parsing_error=lambda _: None
        )
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _without_thoughts(generate_from_stream(self._stream(messages, stop=stop, **kwargs)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _without_thoughts(await agenerate_from_stream(self._astream(messages, stop=stop, **kwargs)))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        turn = ProtocolTurn(self._plan(messages, stop, kwargs))
        for chunk in turn.chunks():
            info = {"finish_reason": chunk.response_metadata["finish_reason"]} if chunk.response_metadata else None
            yield ChatGenerationChunk(message=chunk, generation_info=info)
        learn_tag(self, is_bare=turn.num_untagged_thoughts > 0)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        cancel = TurnCancel(kwargs.pop("cancel", None))
        try:
            async for chunk in super()._astream(messages, stop=stop, cancel=cancel, **kwargs):
                yield chunk
        except (asyncio.CancelledError, GeneratorExit):
            cancel.set()  # ends the waiting thread within one token
            raise

    def _plan(self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]) -> TurnPlan:
        if strangers := sorted(set(options) - _CALL_OPTIONS - _UNUSED_OPTIONS):
            raise InputError(
                f"Unknown call options: {', '.join(map(repr, strangers))}. Allowed: stop, "
                f"{', '.join(sorted(_CALL_OPTIONS))}; pass options of the engine in generation_options."
            )

        def option(name: str) -> Any:
            value = options.get(name)
            return getattr(self, name) if value is None else value

        defaults = option("draw_defaults")
        check_draw_defaults(defaults)
        schema = read_response_format(options.get("response_format"))
        name = str(options.get("model") or self.default_model_name())
        engine = self.text_engine(name)
        is_led = follows_grammar(engine)
        grammar = option("grammar")
        if grammar is not None:
            others = [name for name in ("response_format", "tools") if options.get(name)]
            tools = plan_grammar(grammar, is_supported=is_led, others=others)
        elif schema is None:
            called = tools_called(messages) if is_led else ()
            bound, choice = options.get("tools") or (), options.get("tool_choice")
            if bound and not called and choice in (None, False, "auto"):
                choice = self.auto_tool_choice(messages, bound)
            tools = plan_tools(bound, choice, option("draw"), called=called)
        else:
            tools = plan_json(schema)
        is_plain = schema is None and not tools.instructions and tools.grammar is None
        draw = self.auto_draw_mode(messages) if is_plain and tools.draw == "auto" else tools.draw
        grammar = text_grammar() if is_plain and draw == "never" and self.forbids_tags() else tools.grammar
        start = self.caption_start(messages) if is_plain and draw == "always" else ""
        begun = f"<h> {start}" if start else tools.opening if is_led and tools.grammar else tools.prefill
        dialogue = dialogue_from_messages(
            messages,
            image_resolver=self.image_resolver,
            allow_urls=self.accepts_urls(),
            instructions=[*self.fixed_instructions(), *filter(None, [tools.instructions])],
            closing=tools.closing,
            draw=draw == "always",
        )
        request = TextRequest(
            dialogue,
            prefill=begun,
            max_tokens=option("max_tokens"),
            temperature=option("temperature"),
            top_p=option("top_p"),
            seed=option("seed"),
            options=option("generation_options"),
            thread_id=options.get("thread_id") or _current_thread_id(),
            grammar=grammar if is_led else None,
        )
        cancel: threading.Event | None = options.get("cancel")
        return TurnPlan(
            engine,
            request,
            name,
            draw=draw,
            draw_defaults=defaults,
            draw_arguments=tools.draw_arguments,
            reads_calls=bool(tools.instructions) and schema is None,
            is_forced=bool(tools.prefill) and schema is None,
            is_json=schema is not None,
            stop=self.stop or () if stop is None else stop,
            timeout_s=option("timeout"),
            cancel=cancel,
            fallback_caption=clean_caption(user_text(messages)) or "a picture",
            may_think=self.may_think(),
            buffers_thoughts=self.buffers_thoughts(name),
        )

    def buffers_thoughts(self, model_name: str) -> bool:
        """Return whether an answer is held back until its thinking has ended.

        Args:
            model_name: Name of the model.
        """
        return self.may_think() and holds_answer(self, model_name)


def _without_thoughts(result: ChatResult) -> ChatResult:
    """Return an answer that was not streamed to the caller, without its thinking."""
    for generation in result.generations:
        message = generation.message
        if THOUGHT_END in str(message.text):
            generation.message = message.model_copy(update={"content": without_thoughts(message.content)})
    return result


def _current_thread_id() -> str | None:
    """Return the thread id of the LangGraph run that this call is part of, if any."""
    thread_id = ensure_config().get("configurable", {}).get("thread_id")
    return None if thread_id is None else str(thread_id)
