"""The weights of a text engine, as the arbiter of device memory moves them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mgem_agent.device_memory.arbiter import DeviceArbiter
from mgem_agent.device_memory.model_size import ModelSize
from mgem_agent.device_memory.module_memory import ModuleMemory

if TYPE_CHECKING:
    from mgem_agent.chat_models.core_engine import CoreEngine

__all__ = ["EngineMemory"]


class EngineMemory(ModuleMemory):
    """The weights and caches of one engine.

    An answer that waits for its turn keeps the engine. So an unloaded engine first moves off its device.

    Args:
        name: Name of the model.
        arbiter: Moves it.
        device: The device on which it will be loaded.
        find_size: Returns what it needs.
        drop: Drops the engine, so that the next call loads it again; None for a model that cannot be loaded again.
    """

    def __init__(
        self,
        name: str,
        arbiter: DeviceArbiter,
        *,
        device: str,
        find_size: Callable[[], ModelSize | None],
        drop: Callable[[], object] | None,
    ) -> None:
        super().__init__(
            lambda: name,
            arbiter,
            device=lambda: self._home,
            modules=self._models,
            unload=self._drop_engine,
            size=find_size,
            rest_others=self._rest_caches,
        )
        self._home = device
        self._engine: weakref.ref[CoreEngine] | None = None
        self._drop = drop

    def attach(self, engine: CoreEngine) -> None:
        """Take a loaded engine: from now on it computes within the arbiter's :meth:`~DeviceArbiter.use`.

        Args:
            engine: The engine.
        """
        from mgem_agent.core_model.dialogue.streaming import input_device

        self._home = str(input_device(engine.model))
        self._engine = weakref.ref(engine)
        self.forget_size()  # its files may have been downloaded
        engine.hold = lambda is_cancelled: self._arbiter.use(self, is_cancelled)

    def _attached(self) -> CoreEngine | None:
        return None if self._engine is None else self._engine()

    def _models(self) -> list[Any]:
        engine = self._attached()
        return [] if engine is None else [engine.model]

    def _rest_caches(self) -> None:
        if (engine := self._attached()) is not None:
            engine.rest_caches()

    def _drop_engine(self) -> None:
        if self._arbiter.access.can_rest(self._home) and self.is_movable:
            self.to_rest()
        if self._drop is not None:
            self._drop()
