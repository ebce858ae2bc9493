"""The core model: Mini-Gemini as a transformers model, its processor, its checkpoints and its dialogues.

Nothing heavy is imported until a name is used. Using any name of the model also registers it with transformers' Auto
classes, so that `AutoModelForImageTextToText` and `AutoProcessor` know its folders.
"""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration
    from mgem_agent.core_model.configuration import HighResVisionConfig, MiniGeminiConfig
    from mgem_agent.core_model.geometry import VisualGeometry
    from mgem_agent.core_model.high_res_encoder import HighResEncoder, high_res_config_from_open_clip
    from mgem_agent.core_model.mining import PatchInfoMining
    from mgem_agent.core_model.modeling import MiniGeminiModel, MiniGeminiOutput

__all__ = [
    "HighResEncoder",
    "HighResVisionConfig",
    "MiniGeminiConfig",
    "MiniGeminiForConditionalGeneration",
    "MiniGeminiModel",
    "MiniGeminiOutput",
    "PatchInfoMining",
    "VisualGeometry",
    "high_res_config_from_open_clip",
]

_AUTO = "mgem_agent.core_model.auto"

__getattr__, __dir__ = attach(
    __name__,
    {
        "HighResEncoder": "mgem_agent.core_model.high_res_encoder",
        "HighResVisionConfig": _AUTO,
        "MiniGeminiConfig": _AUTO,
        "MiniGeminiForConditionalGeneration": _AUTO,
        "MiniGeminiModel": _AUTO,
        "MiniGeminiOutput": "mgem_agent.core_model.modeling",
        "PatchInfoMining": "mgem_agent.core_model.mining",
        "VisualGeometry": "mgem_agent.core_model.geometry",
        "high_res_config_from_open_clip": "mgem_agent.core_model.high_res_encoder",
    },
)
