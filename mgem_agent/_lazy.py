"""Import the public names of a package at first use, so that importing the package is quick."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from mgem_agent.deferred_imports import deferred_imports
from mgem_agent.extras import explain_missing

__all__ = ["attach"]


def attach(package: str, exports: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's module-level ``__getattr__`` and ``__dir__`` (PEP 562).

    The calling module lists its exports three times: in ``exports``, in ``__all__``, and in an import under
    ``TYPE_CHECKING`` for editors and type checkers. A test checks that the three agree.

    Args:
        package: The package's ``__name__``.
        exports: The module that each public name is imported from.

    Raises:
        AttributeError: From the returned ``__getattr__``, for any other name; it lists the public ones.
        MissingDependencyError: From the returned ``__getattr__``, if the name needs a package that is not installed.

    Examples:
        >>> load, names = attach("json", {"Decimal": "decimal"})
        >>> load("Decimal")
        <class 'decimal.Decimal'>
        >>> load("Decimla")
        Traceback (most recent call last):
        AttributeError: module 'json' has no attribute 'Decimla'. Loaded when first used: Decimal
    """

    def load(name: str) -> Any:
        if name not in exports:
            known = ", ".join(sorted(exports))
            raise AttributeError(f"module {package!r} has no attribute {name!r}. Loaded when first used: {known}")
        with explain_missing(f"{package}.{name}"), deferred_imports():
            return getattr(importlib.import_module(exports[name]), name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *exports})

    return load, names
