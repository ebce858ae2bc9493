"""Checkpoints on disk: list the released ones, inspect a folder, read the authors' layout and write ours.

Names load lazily.
"""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.core_model.checkpoints.cache import find_folder
    from mgem_agent.core_model.checkpoints.conversion import convert_checkpoint
    from mgem_agent.core_model.checkpoints.inspection import CheckpointReport, inspect_checkpoint
    from mgem_agent.core_model.checkpoints.released import (
        RELEASED_CHECKPOINTS,
        ReleasedCheckpoint,
        find_released,
        official_config,
    )

__all__ = [
    "RELEASED_CHECKPOINTS",
    "CheckpointReport",
    "ReleasedCheckpoint",
    "convert_checkpoint",
    "find_folder",
    "find_released",
    "inspect_checkpoint",
    "official_config",
]

_ROOM = "mgem_agent.core_model.checkpoints"

__getattr__, __dir__ = attach(
    __name__,
    {
        "RELEASED_CHECKPOINTS": f"{_ROOM}.released",
        "CheckpointReport": f"{_ROOM}.inspection",
        "ReleasedCheckpoint": f"{_ROOM}.released",
        "convert_checkpoint": f"{_ROOM}.conversion",
        "find_folder": f"{_ROOM}.cache",
        "find_released": f"{_ROOM}.released",
        "inspect_checkpoint": f"{_ROOM}.inspection",
        "official_config": f"{_ROOM}.released",
    },
)
