"""The core model: Mini-Gemini as a transformers model, its processor, its checkpoints and its dialogues.

Names load lazily. Importing the package is enough for the Auto classes of transformers, such as `AutoConfig`,
`AutoModelForImageTextToText` and `AutoProcessor`, to load its folders.
"""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach
from mgem_agent.core_model.registration import register_when_needed

if TYPE_CHECKING:
    from mgem_agent.core_model.checkpoints.partial_checkpoint import load_without_language_model
    from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration
    from mgem_agent.core_model.configuration import HighResVisionConfig, MiniGeminiConfig
    from mgem_agent.core_model.dialogue.conversation import Conversation, RoundUsage
    from mgem_agent.core_model.dialogue.streaming import stream_generate
    from mgem_agent.core_model.dtype import default_dtype
    from mgem_agent.core_model.geometry import VisualGeometry
    from mgem_agent.core_model.high_res_encoder import HighResEncoder, high_res_config_from_open_clip
    from mgem_agent.core_model.image_loading import load_image
    from mgem_agent.core_model.image_processing import MiniGeminiImageProcessor
    from mgem_agent.core_model.mining import PatchInfoMining
    from mgem_agent.core_model.modeling import MiniGeminiModel, MiniGeminiOutput
    from mgem_agent.core_model.processing import MiniGeminiProcessor
    from mgem_agent.core_model.quantization import quantization_config

__all__ = [
    "Conversation",
    "HighResEncoder",
    "HighResVisionConfig",
    "MiniGeminiConfig",
    "MiniGeminiForConditionalGeneration",
    "MiniGeminiImageProcessor",
    "MiniGeminiModel",
    "MiniGeminiOutput",
    "MiniGeminiProcessor",
    "PatchInfoMining",
    "RoundUsage",
    "VisualGeometry",
    "default_dtype",
    "high_res_config_from_open_clip",
    "load_image",
    "load_without_language_model",
    "quantization_config",
    "stream_generate",
]

_AUTO = "mgem_agent.core_model.auto"

__getattr__, __dir__ = attach(
    __name__,
    {
        "Conversation": "mgem_agent.core_model.dialogue.conversation",
        "HighResEncoder": "mgem_agent.core_model.high_res_encoder",
        "HighResVisionConfig": _AUTO,
        "MiniGeminiConfig": _AUTO,
        "MiniGeminiForConditionalGeneration": _AUTO,
        "MiniGeminiImageProcessor": _AUTO,
        "MiniGeminiModel": _AUTO,
        "MiniGeminiOutput": "mgem_agent.core_model.modeling",
        "MiniGeminiProcessor": _AUTO,
        "PatchInfoMining": "mgem_agent.core_model.mining",
        "RoundUsage": "mgem_agent.core_model.dialogue.conversation",
        "VisualGeometry": "mgem_agent.core_model.geometry",
        "default_dtype": "mgem_agent.core_model.dtype",
        "high_res_config_from_open_clip": "mgem_agent.core_model.high_res_encoder",
        "load_image": "mgem_agent.core_model.image_loading",
        "load_without_language_model": "mgem_agent.core_model.checkpoints.partial_checkpoint",
        "quantization_config": "mgem_agent.core_model.quantization",
        "stream_generate": "mgem_agent.core_model.dialogue.streaming",
    },
)

register_when_needed()
