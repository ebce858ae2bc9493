"""`ChatMiniGemini`: the core model as a LangChain chat model that sees and draws pictures.

Example::

    from langchain_core.messages import HumanMessage
    from mgem_agent import ChatMiniGemini

    model = ChatMiniGemini(model="YanweiLi/MGM-7B", temperature=0)
    answer = model.invoke([HumanMessage("A fox in the snow, please.")], draw="always")
    answer.tool_calls[0]["args"]["prompt"]

Creating it is fast: the weights are loaded at the first answer, once for all threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, ClassVar, Self

from pydantic import Field, PrivateAttr, model_validator

from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.chat_models.engine_memory import EngineMemory
from mgem_agent.chat_models.served_mini_gemini import served_address, served_engine
from mgem_agent.chat_models.text_engine import TextEngine
from mgem_agent.device_memory.arbiter import shared_arbiter
from mgem_agent.device_memory.model_size import ModelSize
from mgem_agent.errors import InputError
from mgem_agent.extras import require_packages

__all__ = ["ChatMiniGemini"]


class ChatMiniGemini(GenProtocolModel):
    """The core model, running in this process or on a server such as vLLM's.

    Human messages and tool results may contain pictures: as base64, as a data URL, or as a `file_id` for
    `image_resolver`. Nothing is downloaded. Visual tokens are counted in `usage_metadata["input_tokens"]`, and
    separately in `input_token_details["image"]`.

    The caches of the last `max_dialogues` dialogues are kept. A cache is found by the thread id of the run's
    configuration, or by the messages that it shares with the dialogue. Caches affect only the cost of an answer, not
    its text. A cache takes memory for each token, so a model with many users should keep few.

    Attributes:
        model: Folder or hub id of the weights, in this library's layout or the authors'; or a loaded model; or the
            address of a server and its name for the model, `http://127.0.0.1:8000/v1#mgm-7b`.
        processor: Processor of a loaded model; by default the one in the model's folder.
        model_options: Options of `from_pretrained`: `dtype` (by default the best of the device), `device_map`,
            `quantization_config`.
        compile_encoder: Whether `torch.compile` compiles the HR encoder of weights that are loaded here: faster
            pictures, but the first takes up to a minute longer. On a CPU it needs a C++ compiler.
        max_dialogues: Maximum number of dialogues whose caches are kept; 0 keeps none.
        api_key: The key of a server; by default that of the environment variable `OPENAI_API_KEY`.
        max_retries: Maximum retries of a request that a server did not process.
        engine_factory: Creates a text engine from a model's name, instead of the core model; for tests.
    """

    REQUIRES: ClassVar = ("torch", "transformers", "timm", "safetensors")
    """Modules that the weights need to run in this process."""

    model: Any = Field(repr=False)
    processor: Any = Field(default=None, exclude=True, repr=False)
    model_options: dict[str, Any] = Field(default_factory=dict)
    compile_encoder: bool = False
    max_dialogues: int = Field(default=4, ge=0)
    engine_factory: Callable[[str], TextEngine] | None = Field(default=None, exclude=True, repr=False)

    _engines: dict[str, TextEngine] = PrivateAttr(default_factory=dict)
    _loading: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if isinstance(self.model, (str, os.PathLike)):
            if not os.fspath(self.model):
                raise InputError("model is empty. Give a folder or a hub id, such as 'YanweiLi/MGM-7B'.")
        elif not hasattr(self.model, "generate"):
            raise InputError(
                f"model is a {type(self.model).__name__!r}. Give a folder, a hub id such as 'YanweiLi/MGM-7B', or a "
                "MiniGeminiForConditionalGeneration with its processor."
            )
        elif self.processor is None:
            raise InputError("A loaded model needs its processor. Give processor=MiniGeminiProcessor(...).")
        return self

    @property
    def _llm_type(self) -> str:
        return "mini-gemini"

    @property
    def runs_here(self) -> bool:
        """Whether its weights are in this process, and not on a server."""
        return served_address(self.model) is None

    def default_model_name(self) -> str:
        """Return the folder or hub id, or the name of a loaded model."""
        if isinstance(self.model, (str, os.PathLike)):
            return os.fspath(self.model)
        return str(getattr(self.model.config, "name_or_path", "") or type(self.model).__name__)

    def text_engine(self, model_name: str) -> TextEngine:
        """Return the text engine; its weights are loaded at the first call.

        Args:
            model_name: Name of the model.

        Raises:
            CheckpointError: If the weights cannot be read.
            MissingDependencyError: If the extra `local` is not installed.
        """
        with self._loading:
            engine = self._engines.get(model_name)
            if engine is None:
                engine = self._engines[model_name] = self._load_in_room(model_name)
            return engine

    def may_think(self) -> bool:
        """Return false, because the core model's prompt templates have no thinking."""
        return False

    def unload(self) -> None:
        """Free the loaded weights and all caches; the next answer loads them again."""
        with self._loading:
            self._engines.clear()

    def _load_in_room(self, name: str) -> TextEngine:
        """Load an engine when other models have made room for it, and let the arbiter keep it on its device."""
        if self.engine_factory is None:
            if not self.runs_here:
                return self._load(name)
            require_packages(f"The model {name!r}", *self.REQUIRES)
        arbiter = shared_arbiter()
        memory = EngineMemory(
            name,
            arbiter,
            device=self.planned_device(),
            find_size=lambda: self.memory_size(name),
            drop=None if self._is_loaded_model(name) else lambda: self._engines.pop(name, None),
        )
        with arbiter.use(memory):
            engine = self._load(name)
            core: Any = getattr(engine, "engine", engine)  # nano without vision wraps one
            if hasattr(core, "rest_caches"):
                memory.attach(core)
        return engine

    def planned_device(self) -> str:
        """Return the device on which a model will be loaded."""
        if self.engine_factory is not None:
            return "cpu"
        from mgem_agent.core_model.quantization import loading_options

        place = loading_options(self.model_options)["device_map"]
        if isinstance(place, str) and place.partition(":")[0] in ("cpu", "cuda", "mps", "xpu"):
            return place
        return "cpu" if place is None else "cuda"

    def memory_size(self, name: str) -> ModelSize | None:
        """Return what a model needs on its device; None if its files are not on this machine.

        Args:
            name: Name of the model.
        """
        if self.engine_factory is not None or self._is_loaded_model(name):
            return None
        from mgem_agent.core_model.checkpoints.size import checkpoint_size

        return checkpoint_size(name, self.model_options)

    def _is_loaded_model(self, name: str) -> bool:
        return name == self.default_model_name() and not isinstance(self.model, (str, os.PathLike))

    def _load(self, name: str) -> TextEngine:
        if self.engine_factory is not None:
            return self.engine_factory(name)
        served = served_address(self.model)
        if served is not None:
            return served_engine(served.renamed(name), key=self.api_key, max_retries=self.max_retries)
        from mgem_agent.chat_models.core_engine import CoreEngine
        from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
        from mgem_agent.core_model.quantization import loading_options

        if self._is_loaded_model(name):
            return CoreEngine(self.model, self.processor, max_dialogues=self.max_dialogues)
        model = MiniGeminiForConditionalGeneration.from_pretrained(name, **loading_options(self.model_options)).eval()
        if self.compile_encoder and (encoder := model.model.high_res_vision_tower) is not None:
            encoder.compile_forward()
        processor = MiniGeminiProcessor.from_pretrained(name)
        return CoreEngine(model, processor, max_dialogues=self.max_dialogues)
