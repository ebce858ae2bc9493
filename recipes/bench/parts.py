"""The time of each part of encoding images: both encoders, mining and the projector."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from mgem_agent.core_model import MiniGeminiForConditionalGeneration
from mgem_agent.recipes.bench.measure import seconds_of, wait_for

__all__ = ["PartsWatch"]


class PartsWatch:
    """Adds up the seconds that a call spends in each part, by hooks on the modules, inside a `with` block.

    Args:
        model: The model.
    """

    def __init__(self, model: MiniGeminiForConditionalGeneration) -> None:
        self._model = model
        self._seconds: dict[str, float] = {}
        self._since = 0.0
        self._hooks = ExitStack()

    def __enter__(self) -> None:
        trunk: Any = self._model.model
        tower, others = trunk.vision_tower, self._others()
        # The tower itself is not called: only some of its layers are run.
        for module in (tower.embeddings, *others.values()):
            self._hooks.callback(module.register_forward_pre_hook(self._start).remove)
        for module in (*tower.encoder.layers, tower.post_layernorm):
            self._hooks.callback(module.register_forward_hook(self._add_to("low_res_encoder")).remove)
        for part, module in others.items():
            self._hooks.callback(module.register_forward_hook(self._add_to(part)).remove)

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def _others(self) -> dict[str, Any]:
        """Return the modules that are called as a whole, by part."""
        trunk: Any = self._model.model
        found = {
            "high_res_encoder": trunk.high_res_vision_tower,
            "mining": trunk.mining,
            "projector": trunk.multi_modal_projector,
        }
        return {part: module for part, module in found.items() if module is not None}

    def time(self, call: Callable[[], object]) -> dict[str, float]:
        """Return the seconds of one call by part; "rest" is the time outside both encoders."""
        self._seconds = dict.fromkeys(("low_res_encoder", "high_res_encoder", "mining", "projector"), 0.0)
        whole = seconds_of(call, self._model.device)
        encoders = self._seconds["low_res_encoder"] + self._seconds["high_res_encoder"]
        return {**self._seconds, "rest": whole - encoders}

    def _start(self, *_: Any) -> None:
        wait_for(self._model.device)
        self._since = time.perf_counter()

    def _add_to(self, part: str) -> Callable[..., None]:
        def add(*_: Any) -> None:
            wait_for(self._model.device)
            now = time.perf_counter()
            self._seconds[part] += now - self._since
            self._since = now

        return add
