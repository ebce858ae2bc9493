"""Number formats of the weights: 8 or 4 bits for the language model, and where its parts are loaded.

Only the language model is quantized. The two encoders, mining and the projector are a small part of the weights and
process every pixel; the head decides between similar words. transformers quantizes, from its own configuration objects.
This module chooses one and lists in it the modules to skip.

In transformers 5, the experts of a mixture are not linear layers, and neither library quantizes them by default.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import torch
from transformers import BitsAndBytesConfig, TorchAoConfig
from transformers.quantizers import AutoQuantizationConfig

from mgem_agent.core_model.dtype import default_dtype
from mgem_agent.errors import InputError
from mgem_agent.extras import is_installed, require_packages

__all__ = ["default_device_map", "loading_options", "protect_vision", "quantization_config"]

_VISION = ("vision_tower", "high_res_vision_tower", "mining", "multi_modal_projector", "reader")

_LEFT_ALONE = [*(f"model.{part}" for part in _VISION), *_VISION, "lm_head"]
"""Names from the root, as transformers compares them, of the model with a head and of the trunk alone."""

_LISTS = ("modules_to_not_convert", "llm_int8_skip_modules", "skip_modules")
"""The fields in which the libraries' configurations list the modules to skip."""

_BACKENDS = {8: ("torchao", "bitsandbytes"), 4: ("bitsandbytes",)}
"""Libraries for each number of bits, best first."""


def quantization_config(
    bits: Literal[8, 4], backend: Literal["auto", "torchao", "bitsandbytes"] = "auto", **options: Any
) -> TorchAoConfig | BitsAndBytesConfig:
    """Return a `quantization_config` for `from_pretrained` with the language model in 8 or 4 bits.

    Args:
        bits: Bits per weight: 8 (rounded values) or 4 (normal floats in blocks, as in QLoRA).
        backend: The library. `auto` takes torchao for 8 bits if it is installed, and bitsandbytes otherwise.
        **options: More options of the library's configuration, such as `bnb_4bit_compute_dtype`.

    Raises:
        InputError: If the library does not support this number of bits.
        MissingDependencyError: If no suitable library is installed.
    """
    if bits not in _BACKENDS:
        raise InputError(f"Weights can have 8 or 4 bits, got {bits!r}.")
    able = _BACKENDS[bits]
    if backend != "auto" and backend not in able:
        raise InputError(f"{bits} bits are supported by {' or '.join(map(repr, able))}, not by {backend!r}.")
    wanted = able if backend == "auto" else (backend,)
    chosen = next((name for name in wanted if is_installed(name)), None)
    if chosen is None:
        require_packages(f"A model in {bits} bits", wanted[0])
    if chosen == "torchao":
        from torchao.quantization import Int8WeightOnlyConfig  # type: ignore[import-untyped]

        weights = Int8WeightOnlyConfig(version=2)  # torchao 0.16 takes version 1, which cannot be saved
        return _protected(TorchAoConfig(weights, **options))
    if bits == 8:
        return _protected(BitsAndBytesConfig(load_in_8bit=True, **options))
    fitting = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
    return _protected(BitsAndBytesConfig(load_in_4bit=True, **(fitting | options)))


def protect_vision(config: Any) -> Any:
    """Return a quantization configuration that skips the encoders, mining, the projector and the head.

    Args:
        config: A configuration of transformers, or a dictionary of one, or None. Modules that it
            already skips stay skipped. One without such a list (for weights already quantized, as by GPTQ) is returned
            unchanged.
    """
    if config is None:
        return None
    return _protected(AutoQuantizationConfig.from_dict(dict(config)) if isinstance(config, Mapping) else config)


def _protected(config: Any) -> Any:
    config = copy.deepcopy(config)
    for name in _LISTS:
        if hasattr(config, name):
            given = list(getattr(config, name) or [])
            setattr(config, name, given + [module for module in _LEFT_ALONE if module not in given])
    return config


def default_device_map() -> str | None:
    """Return the `device_map` with which a model runs on this machine's GPUs: `auto`, or None where there is none."""
    return "auto" if torch.cuda.is_available() else None


def loading_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of `from_pretrained` for this machine.

    The dtype is the best one of the device, not that of the file: weights in float16 overflow on a CPU.

    Args:
        given: Options that are kept.
    """
    options = {"device_map": default_device_map(), **given}
    place = options["device_map"]
    kind = str(place).partition(":")[0]
    if kind not in ("cpu", "cuda", "mps", "xpu"):  # none, a strategy such as "auto", or a map of parts
        kind = "cuda" if place is not None and torch.cuda.is_available() else "cpu"
    return {"dtype": default_dtype(kind), **options}
