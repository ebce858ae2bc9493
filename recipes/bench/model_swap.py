"""What sharing one device costs: turns that ask and draw with nano, by the policy of the memory.

Each turn is one short answer and one picture. `keep` leaves both models on the device; `swap` moves the idle one to
main memory and back; `unload` frees it and loads it again. Where the device is the CPU, swapping moves nothing and is
left out. nano's models are small; the bytes that moved are reported, so that the cost of larger ones can be estimated.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, computed_field
from rich.table import Table

from mgem_agent.device_memory import arbiter as arbiter_module
from mgem_agent.device_memory.arbiter import DeviceArbiter
from mgem_agent.device_memory.device_access import TorchDevices
from mgem_agent.device_memory.model_size import shown_bytes
from mgem_agent.device_memory.resident_model import MemoryPolicy
from mgem_agent.errors import ToolError
from mgem_agent.nano.foreign_warnings import without_foreign_warnings
from mgem_agent.nano.gguf_conversion import quiet_transformers
from mgem_agent.recipes.bench.comparison import Comparison, Run, format_seconds, format_times
from mgem_agent.recipes.bench.measure import describe_machine, find_device, require_positive
from mgem_agent.recipes.bench.progress import steps
from mgem_agent.tools.diffusers.logging import quiet_diffusers

if TYPE_CHECKING:
    from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
    from mgem_agent.tools.diffusers.generator import DiffusersGenerator

__all__ = ["PolicyTimes", "SwapCost", "measure_model_swap"]

_ANSWER_TOKENS = 4
_STEPS = 2
_QUESTION = "Hello"


class PolicyTimes(BaseModel):
    """Turns under one policy.

    Attributes:
        policy: The policy.
        seconds: Seconds of each turn after the first, which loads both models.
        moved_bytes: Bytes that moved in a turn, in both directions; of `unload`, the bytes that were freed.
    """

    model_config = ConfigDict(frozen=True)

    policy: MemoryPolicy
    seconds: tuple[float, ...]
    moved_bytes: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def median_s(self) -> float:
        """Median seconds of a turn."""
        return statistics.median(self.seconds)


class SwapCost(Comparison):
    """Turns under each policy: ours keeps both models on the device, the alternative moves or unloads the idle one.

    Attributes:
        policies: The policies, `keep` first.
    """

    policies: tuple[PolicyTimes, ...]

    def tables(self) -> list[Table]:
        """Return one row for each policy, with how many times as long a turn takes as with `keep`."""
        table = Table("policy", "a turn", "against keep", "moved in a turn")
        for column in table.columns[1:]:
            column.justify = "right"
        for times in self.policies:
            moved = shown_bytes(times.moved_bytes) if times.moved_bytes else "–"
            ratio = times.median_s / self.policies[0].median_s
            table.add_row(times.policy, format_seconds(times.median_s), format_times(ratio), moved)
        return [table]


def measure_model_swap(
    *, device: str = "cpu", turns: int = 2, model: Path | None = None, pipeline: Path | None = None
) -> SwapCost:
    """Measure turns under each policy.

    Args:
        device: The device that runs both models.
        turns: Timed turns of each policy.
        model: Folder of a vision-language model; nano by default.
        pipeline: Folder of a diffusers pipeline; nano's by default.

    Raises:
        ToolError: If a picture cannot be drawn.
        InputError: If there is no such device.
    """
    require_positive(turns=turns)
    if model is None or pipeline is None:
        from mgem_agent.nano.drawing import DIFFUSION_WEIGHTS
        from mgem_agent.nano.vision_language import find_nano

        model, pipeline = model or find_nano(), pipeline or DIFFUSION_WEIGHTS
    policies: list[MemoryPolicy] = ["keep", "swap", "unload"]
    if not TorchDevices().can_rest(device):
        policies.remove("swap")
    kept = arbiter_module.shared_arbiter()
    try:
        with without_foreign_warnings(), quiet_diffusers(), quiet_transformers():
            measured = tuple(_measure(policy, device, turns, model, pipeline) for policy in policies)
    finally:
        arbiter_module.set_shared_arbiter(kept)
    kept_both, second = measured[0], measured[1]
    return SwapCost(
        name="swap",
        setting=f"one answer and one picture a turn, on {device}",
        note="nano's models are small: the cost grows with the bytes that move.",
        ours_run=Run(label=kept_both.policy, seconds=kept_both.seconds),
        alternative_run=Run(label=second.policy, seconds=second.seconds),
        max_abs_difference={},
        max_abs_value={},
        machine=describe_machine(find_device(device)),
        policies=measured,
    )


def _measure(policy: MemoryPolicy, device: str, turns: int, model: Path, pipeline: Path) -> PolicyTimes:
    """Measure one policy with models of its own, so that no other policy's are on the device."""
    from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
    from mgem_agent.tools.diffusers.generator import DiffusersGenerator
    from mgem_agent.tools.diffusers.options import DiffusersOptions

    arbiter = DeviceArbiter(policy)
    arbiter_module.set_shared_arbiter(arbiter)
    options = {"device_map": device, "dtype": "float32"} if device != "cpu" else {"dtype": "float32"}
    chat = ChatMiniGemini(model=str(model), model_options=options, temperature=0, max_tokens=_ANSWER_TOKENS)
    generator = DiffusersGenerator(
        str(pipeline), DiffusersOptions(device=device, num_inference_steps=_STEPS, local_files_only=True)
    )
    try:
        _turn(chat, generator)  # loads both
        arbiter.moves.clear()
        seconds = []
        for _ in steps(f"turns with memory_policy {policy}", range(turns)):
            started = time.perf_counter()
            _turn(chat, generator)
            seconds.append(time.perf_counter() - started)
        moved = sum(move.num_bytes for move in arbiter.moves) // turns
    finally:
        chat.unload()
        generator.unload()
    return PolicyTimes(policy=policy, seconds=tuple(seconds), moved_bytes=moved)


def _turn(chat: ChatMiniGemini, generator: DiffusersGenerator) -> None:
    """Ask once and draw once."""
    from langchain_core.messages import HumanMessage

    from mgem_agent.tools.image_request import ImageRequest
    from mgem_agent.tools.image_result import ImageResult

    chat.invoke([HumanMessage(_QUESTION)], draw="never")
    for event in generator.generate([ImageRequest(prompt="a red circle", seed=1)]):
        if isinstance(event, ImageResult) and event.image is None:
            raise event.error or ToolError("The generator returned no picture.")
