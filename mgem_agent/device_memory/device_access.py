"""Moving weights between a device and main memory, and counting them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from mgem_agent.device_memory.main_memory import read_main_memory

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["DeviceAccess", "TorchDevices", "storage_bytes", "tensors_of"]


class DeviceAccess(Protocol):
    """What the arbiter and its models do with devices."""

    def available_bytes(self, device: str) -> int | None:
        """Return the bytes for the models of this process, including those in use; None if there is no limit."""
        ...

    def can_rest(self, device: str) -> bool:
        """Return whether moving weights to main memory frees the device."""
        ...

    def free_rest_bytes(self) -> int | None:
        """Return the free main memory; None if unknown."""
        ...

    def to_home(self, modules: Iterable[nn.Module], device: str) -> None:
        """Move weights to the device."""
        ...

    def to_rest(self, modules: Iterable[nn.Module], device: str) -> None:
        """Move weights from the device to main memory."""
        ...

    def resident_bytes(self, modules: Iterable[nn.Module], device: str) -> int:
        """Return the bytes of weights on the device; shared weights count once."""
        ...

    def release(self, device: str) -> None:
        """Give memory that was freed back to the device."""
        ...


class TorchDevices:
    """The devices of torch; weights rest on the CPU."""

    def available_bytes(self, device: str) -> int | None:
        """Return what is free on the device and what this process has reserved; None for a CPU."""
        import torch

        kind = device.partition(":")[0]
        if kind == "mps":
            return int(torch.mps.recommended_max_memory())
        if kind not in ("cuda", "xpu"):
            return None
        module: Any = torch.get_device_module(kind)
        free, _ = module.mem_get_info(device)
        return int(free + module.memory_reserved(device))

    def can_rest(self, device: str) -> bool:
        """Return whether the device has memory of its own; Apple's shares that of the CPU."""
        return device.partition(":")[0] not in ("cpu", "mps")

    def free_rest_bytes(self) -> int | None:
        """Return the free main memory; None if unknown."""
        memory = read_main_memory()
        return None if memory is None else memory[1]

    def to_home(self, modules: Iterable[nn.Module], device: str) -> None:
        """Move weights to the device."""
        for module in modules:
            module.to(device)

    def to_rest(self, modules: Iterable[nn.Module], device: str) -> None:
        """Move weights to the CPU."""
        for module in modules:
            module.to("cpu")
        self.release(device)

    def resident_bytes(self, modules: Iterable[nn.Module], device: str) -> int:
        """Return the bytes of weights on the device; shared weights count once."""
        import torch

        wanted = torch.device(device)
        kept = [
            tensor
            for tensor in tensors_of(modules)
            if tensor.device.type == wanted.type and wanted.index in (None, tensor.device.index)
        ]
        return storage_bytes(kept)

    def release(self, device: str) -> None:
        """Collect garbage, and give cached memory back to the device."""
        import gc

        import torch

        gc.collect()
        kind = device.partition(":")[0]
        if kind in ("cuda", "mps", "xpu"):
            module: Any = torch.get_device_module(kind)
            module.empty_cache()


def tensors_of(modules: Iterable[nn.Module]) -> Iterator[Tensor]:
    """Yield the parameters and buffers of modules.

    Args:
        modules: The modules; they may share weights.
    """
    for module in modules:
        yield from module.parameters()
        yield from module.buffers()


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes that tensors take; views of one storage count once.

    Args:
        tensors: The tensors. Those of quantized weights count by the tensors inside them.
    """
    storages: dict[tuple[str, int], int] = {}
    for tensor in tensors:
        for plain in _plain(tensor):
            storage = plain.untyped_storage()
            if plain.device.type != "meta":
                storages[str(plain.device), storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _plain(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the tensors with memory within a tensor; those of torchao wrap several."""
    flatten: Any = getattr(tensor, "__tensor_flatten__", None)
    if flatten is not None and type(tensor).__name__ not in ("Tensor", "Parameter"):
        for name in flatten()[0]:
            yield from _plain(getattr(tensor, name))
    else:
        yield tensor
