"""Make the modules of a model on the meta device, quickly, before its weights are loaded.

torch runs the functions that fill a tensor on the meta device in Python, and imports its compiler and sympy for that:
more than a second of CPU time. Such a tensor has no values, so nothing needs to be computed.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["meta_device", "without_meta_values"]

_FILLED = ("ones", "rand", "randn", "zeros")
"""Functions of torch whose tensor has the shape and dtype of `torch.empty`."""

_WITH_NUMBER = ("__truediv__", "__rtruediv__", "__rpow__")
"""Operations of a tensor with a number whose result has the shape and dtype of a tensor of real numbers.

Rotary position embeddings compute their frequencies with them.
"""

_TIMM_FILL = "_trunc_normal_"
"""timm's own function that fills a tensor, which all its models call."""

_RESTORED = ("diffusers.models.modeling_utils", "TORCH_INIT_FUNCTIONS")
"""A module with a table of torch's own functions, to which it sets `torch.nn.init` each time it has made a model."""

_lock = threading.RLock()
_depth = 0
_undo: list[Callable[[], None]] = []


@contextmanager
def without_meta_values() -> Iterator[None]:
    """Compute no values for tensors on the meta device; other tensors get theirs as usual.

    It can be nested, and entered in several threads.
    """
    global _depth
    with _lock:
        _depth += 1
        if _depth == 1:
            _begin()
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if not _depth:
                while _undo:
                    _undo.pop()()


@contextmanager
def meta_device() -> Iterator[None]:
    """Make tensors on the meta device, without values."""
    import torch

    with without_meta_values(), torch.device("meta"):
        yield


def _begin() -> None:
    import torch
    from torch.nn import init

    with torch.device("meta"):
        torch.empty(0)  # the first time, torch looks up the functions that take this device, and keeps them
    fill = {name: function for name, function in vars(init).items() if name.endswith("_") and not name.startswith("_")}
    module, table = _RESTORED
    restored = getattr(sys.modules.get(module), table, {})
    for name, function in fill.items():
        if inspect.isfunction(function):
            filled = _filled(function)
            _replace(init, name, filled)
            if name in restored:
                _undo.append(functools.partial(restored.__setitem__, name, restored[name]))
                restored[name] = filled
    timm: Any = sys.modules.get("timm.layers.weight_init")
    if hasattr(timm, _TIMM_FILL):
        _replace(timm, _TIMM_FILL, _filled(getattr(timm, _TIMM_FILL)))
    for name in _FILLED:
        _replace(torch, name, _made(getattr(torch, name), torch.empty))
    _replace(torch, "empty_like", _like(torch.empty_like))
    for name in _WITH_NUMBER:
        _replace(torch.Tensor, name, _with_number(getattr(torch.Tensor, name)))
    _replace(torch, "arange", _made(torch.arange, _empty_range(torch.arange)))


def _replace(owner: Any, name: str, value: Any) -> None:
    _undo.append(functools.partial(setattr, owner, name, getattr(owner, name)))
    setattr(owner, name, value)


def _filled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of `torch.nn.init` that leaves a meta tensor unchanged."""

    @functools.wraps(function)
    def fill(tensor: Any, *args: Any, **options: Any) -> Any:
        return tensor if getattr(tensor, "is_meta", False) else function(tensor, *args, **options)

    return fill


def _made(function: Callable[..., Any], make_empty: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of torch that makes a tensor, and leaves it empty on the meta device."""
    import torch

    @functools.wraps(function)
    def make(*args: Any, **options: Any) -> Any:
        device = options.get("device")
        is_meta = torch.device(torch.get_default_device() if device is None else device).type == "meta"
        if not is_meta or options.keys() - {"device", "dtype", "requires_grad"}:
            return function(*args, **options)
        return make_empty(*args, **options)

    return make


def _like(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `torch.empty_like`, which for a meta tensor avoids torch's version in Python."""
    import torch

    @functools.wraps(function)
    def make(tensor: Any, *args: Any, **options: Any) -> Any:
        is_plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.is_meta and tensor.is_contiguous()
        if not is_plain or args or options.keys() - {"device", "dtype"}:
            return function(tensor, *args, **options)
        device, dtype = options.get("device"), options.get("dtype")
        device = tensor.device if device is None else device
        return torch.empty(tensor.shape, device=device, dtype=tensor.dtype if dtype is None else dtype)

    return make


def _with_number(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Return an operation of `torch.Tensor` that computes nothing for a meta tensor of real numbers and a number."""
    import torch

    @functools.wraps(operation)
    def operate(tensor: Any, other: Any) -> Any:
        is_plain = type(tensor) is torch.Tensor and tensor.is_meta and tensor.is_floating_point()
        if is_plain and isinstance(other, (int, float)) and not tensor.requires_grad:
            return torch.empty_like(tensor)
        return operation(tensor, other)

    return operate


def _empty_range(arange: Callable[..., Any]) -> Callable[..., Any]:
    """Return `torch.arange` for the meta device: its size follows from its values, which are computed on the CPU."""

    def make(*args: Any, **options: Any) -> Any:
        return arange(*args, **{**options, "device": "cpu"}).to("meta")

    return make
