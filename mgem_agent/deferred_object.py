"""An object of a module that is imported when the object is first used."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator, MutableMapping
from typing import Any, Union

__all__ = ["DeferredObject", "load_deferred"]

_UNSET = object()

_FIELDS = ("_deferred_module", "_deferred_name", "_deferred_namespace", "_deferred_value")

_OWN = frozenset({*_FIELDS, "__copy__", "__deepcopy__", "__mro_entries__", "__reduce_ex__"})
"""Attributes that are not those of the object: Python looks for these methods on the instance."""

_PROBED = frozenset(
    {"__origin__", "__parameters__", "__typing_is_unpacked_typevartuple__", "__typing_subst__", "__unpacked__"}
)
"""What `typing` looks for on each part of a hint; classes, functions and modules do not have them."""


class DeferredObject:
    """Stands for an object, or a module, in the namespace of the module that imports it.

    Any use imports the module and is passed on to the object, which then also takes this one's place in the namespace.
    Three uses import nothing while the module is not imported: an `isinstance` or `issubclass` check, which is False; a
    type hint `A | B`; and the object's `__name__`.

    Args:
        module: Name of the module.
        name: Name of the object in it; None for the module itself.
        namespace: Namespace of the importing module.
    """

    __slots__ = _FIELDS

    def __init__(self, module: str, name: str | None, namespace: MutableMapping[str, Any]) -> None:
        for field, value in (("module", module), ("name", name), ("namespace", namespace), ("value", _UNSET)):
            object.__setattr__(self, f"_deferred_{field}", value)

    def __getattribute__(self, name: str) -> Any:
        if name in _OWN:
            return object.__getattribute__(self, name)
        if self._deferred_value is _UNSET:
            if name in _PROBED:
                raise AttributeError(name)
            if name == "__name__" and self._deferred_name is not None:
                return self._deferred_name
        return getattr(load_deferred(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(load_deferred(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(load_deferred(self), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the object."""
        return load_deferred(self)(*args, **kwargs)

    def __instancecheck__(self, instance: object) -> bool:
        return _is_imported(self) and isinstance(instance, load_deferred(self))

    def __subclasscheck__(self, cls: type[Any]) -> bool:
        return _is_imported(self) and issubclass(cls, load_deferred(self))

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (load_deferred(self),)

    def __or__(self, other: Any) -> Any:
        # A hint by its name, which `|` does not take.
        return Union[self.__name__, other] if _is_hint(self) else load_deferred(self) | other  # noqa: UP007

    def __ror__(self, other: Any) -> Any:
        return Union[other, self.__name__] if _is_hint(self) else other | load_deferred(self)  # noqa: UP007

    def __eq__(self, other: object) -> bool:
        return bool(self is other or load_deferred(self) == other)

    def __hash__(self) -> int:
        return hash(load_deferred(self))

    def __bool__(self) -> bool:
        return bool(load_deferred(self))

    def __len__(self) -> int:
        return len(load_deferred(self))

    def __iter__(self) -> Iterator[Any]:
        return iter(load_deferred(self))

    def __contains__(self, item: object) -> bool:
        return item in load_deferred(self)

    def __getitem__(self, item: Any) -> Any:
        return load_deferred(self)[item]

    def __dir__(self) -> list[str]:
        return dir(load_deferred(self))

    def __repr__(self) -> str:
        return repr(load_deferred(self))

    def __copy__(self) -> Any:
        return load_deferred(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return load_deferred(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (_import, (self._deferred_module, self._deferred_name))


def load_deferred(deferred: Any) -> Any:
    """Return the object that a deferred one stands for; any other object is returned unchanged.

    Raises:
        ImportError: If the module cannot be imported or has no such object.
    """
    if not issubclass(type(deferred), DeferredObject):
        return deferred
    if deferred._deferred_value is _UNSET:
        value = _import(deferred._deferred_module, deferred._deferred_name)
        object.__setattr__(deferred, "_deferred_value", value)
        namespace = deferred._deferred_namespace
        for name in [name for name, found in namespace.items() if found is deferred]:
            namespace[name] = value
    return deferred._deferred_value


def _import(module: str, name: str | None) -> Any:
    found = importlib.import_module(module)
    if name is None:
        return found
    try:
        return getattr(found, name)
    except AttributeError:
        return importlib.import_module(f"{module}.{name}")  # a submodule, or an ImportError


def _is_imported(deferred: DeferredObject) -> bool:
    return deferred._deferred_module in sys.modules


def _is_hint(deferred: DeferredObject) -> bool:
    """Return whether `A | B` is evaluated at the top of a module or in the body of a class, and not in a function."""
    if deferred._deferred_value is not _UNSET or deferred._deferred_name is None:
        return False
    here = inspect.currentframe()
    caller = here.f_back.f_back if here and here.f_back else None  # beyond `__or__`
    return caller is not None and not caller.f_code.co_flags & inspect.CO_OPTIMIZED
