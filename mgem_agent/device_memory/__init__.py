"""The memory of an accelerator, shared by a language model and an image generator.

One arbiter of the process knows what each loaded model needs. It keeps all of them on the device where they fit, and
moves or unloads the idle one where they do not.
"""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.device_memory.arbiter import DeviceArbiter, Move, shared_arbiter
    from mgem_agent.device_memory.model_size import ModelSize
    from mgem_agent.device_memory.resident_model import MemoryPolicy, ResidentModel

__all__ = [
    "DeviceArbiter",
    "MemoryPolicy",
    "ModelSize",
    "Move",
    "ResidentModel",
    "shared_arbiter",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "DeviceArbiter": "mgem_agent.device_memory.arbiter",
        "MemoryPolicy": "mgem_agent.device_memory.resident_model",
        "ModelSize": "mgem_agent.device_memory.model_size",
        "Move": "mgem_agent.device_memory.arbiter",
        "ResidentModel": "mgem_agent.device_memory.resident_model",
        "shared_arbiter": "mgem_agent.device_memory.arbiter",
    },
)
