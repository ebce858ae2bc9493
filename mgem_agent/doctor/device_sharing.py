"""Whether the reasoner and the generator fit on one device, and what happens if they do not, with numbers.

The numbers come from the headers of the models' files. Nothing is loaded or downloaded, and no server is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mgem_agent.device_memory.main_memory import read_main_memory
from mgem_agent.device_memory.model_size import ModelSize, shown_bytes
from mgem_agent.doctor.finding import Finding
from mgem_agent.errors import MgemError
from mgem_agent.extras import is_installed

if TYPE_CHECKING:
    from mgem_agent.settings import Settings

__all__ = ["check_device_sharing"]

TOPIC = "sharing"


def check_device_sharing(settings: Settings) -> Sequence[Finding]:
    """Compare what both models need with what their device has.

    Args:
        settings: The model, the generator, their options and the policy are used.
    """
    from mgem_agent.reasoners import make_reasoner
    from mgem_agent.tools.registry import make_generator

    if not is_installed("torch"):
        return []
    try:
        reasoner = make_reasoner(settings.model, **settings.model_options)
        generator = make_generator(settings.generator, **settings.options_of(settings.generator))
    except MgemError:
        return []  # the checks of the model and the generator report it
    findings, sizes, devices = [], [], []
    for role, name, model in (("model", settings.model, reasoner), ("generator", settings.generator, generator)):
        finding, size, device = _describe(role, name, model, settings)
        findings.append(finding)
        if device is not None:
            sizes.append(size)
            devices.append(device)
    if len(devices) == 2:
        findings += _verdict(sizes, devices, settings)
    return findings


def _describe(role: str, name: str, model: Any, settings: Settings) -> tuple[Finding, ModelSize | None, str | None]:
    """Say where a model runs and what it needs; the device is None for one on a server."""
    if getattr(model, "is_on_this_machine", False):
        does = "does nothing to" if settings.memory_policy == "keep" else "may ask it to free"
        text = f"{role} {name} is a server on this machine; memory_policy {settings.memory_policy} {does} its memory"
        return Finding(TOPIC, "ok", text), None, None
    if not hasattr(model, "memory_size"):
        text = f"{role} {name} runs on a server, or takes no memory of a device here"
        return Finding(TOPIC, "ok", text), None, None
    if role == "model":
        size, device = model.memory_size(model.default_model_name()), model.planned_device()
    else:
        size, device = model.memory_size(), model.device
    if size is None:
        return Finding(TOPIC, "note", f"{role} {name} is not on this machine yet, so its size is unknown"), None, device
    return Finding(TOPIC, "ok", f"{role} {name} needs {size.describe()} on {device}"), size, device


def _verdict(sizes: Sequence[ModelSize | None], devices: Sequence[str], settings: Settings) -> list[Finding]:
    """Say whether both fit, and what the policy does."""
    from mgem_agent.device_memory.arbiter import DeviceArbiter

    limit = settings.memory_limit_gib
    arbiter = DeviceArbiter(settings.memory_policy, None if limit is None else int(limit * 2**30))
    kinds = {device.partition(":")[0] for device in devices}
    if len(kinds) > 1:
        return [Finding(TOPIC, "ok", f"they run on different devices ({' and '.join(devices)}), so both stay")]
    device = devices[0]
    swaps = arbiter.access.can_rest(device)
    available = arbiter.available_bytes(device)
    if settings.memory_policy == "swap" and not swaps:
        text = f"memory_policy swap has no effect on {device}, whose memory is the main memory"
        return [Finding(TOPIC, "note", text, "mgem config set memory_policy unload")]
    if settings.memory_policy != "auto":
        does = {"keep": "both stay", "swap": "the idle one moves to main memory", "unload": "the idle one is unloaded"}
        return [Finding(TOPIC, "ok", f"memory_policy {settings.memory_policy}: {does[settings.memory_policy]}")]
    return [_auto(sizes, device, available, swaps)]


def _auto(sizes: Sequence[ModelSize | None], device: str, available: int | None, swaps: bool) -> Finding:
    known = [size for size in sizes if size is not None]
    needed = sum(size.total_bytes for size in known)
    memory = read_main_memory()
    if available is None:
        text = f"memory_policy auto: both stay in main memory; they need {shown_bytes(needed)}"
        if memory is not None and needed > memory[1]:
            fix = "mgem config set memory_policy unload"
            return Finding(TOPIC, "note", f"{text}, and {shown_bytes(memory[1])} are free", fix)
        return Finding(TOPIC, "ok", text)
    has = f"{device} has {shown_bytes(available)} for models"
    largest = max(known, key=lambda size: size.total_bytes, default=None)
    if largest is not None and largest.total_bytes > available:
        text = f"{has}; the larger one alone needs {shown_bytes(largest.total_bytes)}"
        return Finding(TOPIC, "note", text, "mgem config set generator_options.offload model")
    if len(known) < len(sizes):
        return Finding(TOPIC, "ok", f"{has}; the other model makes room when one of unknown size is loaded")
    if needed <= available:
        return Finding(TOPIC, "ok", f"{has}, both need {shown_bytes(needed)}; memory_policy auto: both stay")
    goes = "moves to main memory" if swaps else "is unloaded"
    return Finding(TOPIC, "ok", f"{has}, both need {shown_bytes(needed)}; memory_policy auto: the idle one {goes}")
