"""A model of torch modules in this process, as the arbiter moves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mgem_agent.device_memory.arbiter import DeviceArbiter
from mgem_agent.device_memory.model_size import ModelSize

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ModuleMemory"]


class ModuleMemory:
    """The weights of a model in this process.

    Args:
        name: Returns its name, for messages.
        arbiter: Moves it.
        device: Returns the device that runs it.
        modules: Returns its modules; none while it is not loaded.
        unload: Frees them.
        size: Returns what it needs; called once.
        rest_others: Moves what it has besides modules, such as caches, to main memory.
    """

    is_served = False
    """Its memory belongs to this process."""

    def __init__(
        self,
        name: Callable[[], str],
        arbiter: DeviceArbiter,
        *,
        device: Callable[[], str],
        modules: Callable[[], Sequence[nn.Module]],
        unload: Callable[[], None],
        size: Callable[[], ModelSize | None] = lambda: None,
        rest_others: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._arbiter = arbiter
        self._device = device
        self._modules = modules
        self._unload = unload
        self._find_size = size
        self._rest_others = rest_others
        self._size: ModelSize | None = None
        self._has_size = False
        self._is_resting = False

    @property
    def name(self) -> str:
        """Its name."""
        return self._name()

    @property
    def device(self) -> str:
        """The device that runs it."""
        return self._device()

    @property
    def is_movable(self) -> bool:
        """Whether accelerate has not spread it over several devices, or offloaded it layer by layer."""
        return not any(_is_dispatched(module) for module in self._modules())

    @property
    def is_resting(self) -> bool:
        """Whether it was moved to main memory and not back."""
        return self._is_resting and bool(self._modules())

    def size(self) -> ModelSize | None:
        """Return what it needs; None if its files do not say."""
        if not self._has_size:
            self._size, self._has_size = self._find_size(), True
        return self._size

    def forget_size(self) -> None:
        """Read the size again at the next question, as after a download."""
        self._has_size = False

    def resident_bytes(self) -> int:
        """Return the bytes of its weights on the device."""
        return self._arbiter.access.resident_bytes(self._modules(), self.device)

    def to_home(self) -> None:
        """Move its weights to the device."""
        self._arbiter.access.to_home(self._modules(), self.device)
        self._is_resting = False

    def to_rest(self) -> None:
        """Move its weights and caches to main memory."""
        self._is_resting = True
        self._rest_others()
        self._arbiter.access.to_rest(self._modules(), self.device)

    def unload(self) -> None:
        """Free its weights."""
        self._unload()
        if not self._modules():
            self._is_resting = False


def _is_dispatched(module: Any) -> bool:
    """Return whether accelerate places the layers of a module."""
    places = getattr(module, "hf_device_map", None) or {}
    return len(set(map(str, places.values()))) > 1 or any(
        getattr(getattr(each, "_hf_hook", None), "offload", False) for each in module.modules()
    )
