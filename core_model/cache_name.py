"""The name of the key-value cache in transformers' calls and outputs: `cache` from 5.24 on, `past_key_values` before.

The model accepts either name with any release, and passes the cache on under the installed release's name.
"""

from __future__ import annotations

import inspect
from typing import Any

from transformers import GenerationMixin

__all__ = ["CACHE_NAME", "CACHE_NAMES", "rename_cache"]

CACHE_NAMES = ("cache", "past_key_values")
"""All names of the cache in transformers, the newest first."""

CACHE_NAME = next(
    name
    for name in CACHE_NAMES
    if name in inspect.signature(inspect.unwrap(vars(GenerationMixin)["prepare_inputs_for_generation"])).parameters
)
"""The name in the installed release."""


def rename_cache(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return keyword arguments with the cache renamed for the installed release.

    Args:
        arguments: Keyword arguments of `forward` or `generate`.
    """
    cache = next((arguments[name] for name in CACHE_NAMES if arguments.get(name) is not None), None)
    others = {name: value for name, value in arguments.items() if name not in CACHE_NAMES}
    return others if cache is None else {**others, CACHE_NAME: cache}
