"""Number formats of the weights: 8 and 4 bits for the language model, and the best plain one for a device.

Only the language model is quantized. The two encoders, mining and the projector are a small part of the weights and
see every pixel; the head decides between neighbouring words. transformers does the work, with its own configuration
objects; what is done here is to choose one, and to name in it what is left alone.

The experts of a mixture are not linear layers in transformers 5, and neither library quantizes them by default.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import torch
from transformers import BitsAndBytesConfig, TorchAoConfig
from transformers.quantizers import AutoQuantizationConfig

from mgem_agent.errors import InputError
from mgem_agent.extras import is_installed, require_packages

__all__ = ["default_device_map", "default_dtype", "protect_vision", "quantization_config"]

_VISION = ("vision_tower", "high_res_vision_tower", "mining", "multi_modal_projector")

_LEFT_ALONE = [*(f"model.{part}" for part in _VISION), *_VISION, "lm_head"]
"""Names from the root, as transformers compares them, of the model with a head and of the trunk alone."""

_LISTS = ("modules_to_not_convert", "llm_int8_skip_modules", "skip_modules")
"""Where a configuration of one library or another names what is left alone."""

_BACKENDS = {8: ("torchao", "bitsandbytes"), 4: ("bitsandbytes",)}
"""What can hold so many bits, best first."""


def quantization_config(
    bits: Literal[8, 4], backend: Literal["auto", "torchao", "bitsandbytes"] = "auto", **options: Any
) -> TorchAoConfig | BitsAndBytesConfig:
    """Return what `from_pretrained(quantization_config=...)` needs to keep the language model in 8 or 4 bits.

    Args:
        bits: Bits of a weight: 8 (its values rounded) or 4 (normal floats in blocks, as QLoRA has them).
        backend: The library. `auto` takes torchao for 8 bits if it is installed, and bitsandbytes otherwise.
        **options: More options of the library's configuration, such as `bnb_4bit_compute_dtype`.

    Raises:
        InputError: If the library cannot hold so many bits.
        MissingDependencyError: If no library that can is installed.
    """
    if bits not in _BACKENDS:
        raise InputError(f"Weights can have 8 or 4 bits, got {bits!r}.")
    able = _BACKENDS[bits]
    if backend != "auto" and backend not in able:
        raise InputError(f"{bits} bits can be had from {' or '.join(map(repr, able))}, not from {backend!r}.")
    wanted = able if backend == "auto" else (backend,)
    chosen = next((name for name in wanted if is_installed(name)), None)
    if chosen is None:
        require_packages(f"A model in {bits} bits", wanted[0])
    if chosen == "torchao":
        from torchao.quantization import Int8WeightOnlyConfig  # type: ignore[import-untyped]

        return _protected(TorchAoConfig(Int8WeightOnlyConfig(), **options))
    if bits == 8:
        return _protected(BitsAndBytesConfig(load_in_8bit=True, **options))
    fitting = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
    return _protected(BitsAndBytesConfig(load_in_4bit=True, **(fitting | options)))


def protect_vision(config: Any) -> Any:
    """Return a quantization configuration that leaves the encoders, mining, the projector and the head alone.

    Args:
        config: A configuration of transformers, or a dictionary of one, or None. What it leaves alone already stays so.
            One with no such list (of weights that were quantized beforehand, as by GPTQ) is returned as it is.
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


def default_dtype(device: torch.device | str) -> torch.dtype:
    """Return the number format in which a device runs the model best.

    It is bfloat16, in which the released weights are stored, where the hardware multiplies it; a processor that has to
    emulate it is several times faster in float32.

    Args:
        device: Where the model will run.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if kind == "cpu":
        # A torch too old to say what the processor can do gets float32, which is never wrong.
        capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        native = any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "sve_bf16", "bf16"))
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16
