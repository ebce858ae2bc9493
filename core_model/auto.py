"""Registration with transformers' Auto classes, done once when this module is imported.

The names under which the authors published their configurations lead to ours, which translates them.
"""

from __future__ import annotations

from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
)

from mgem_agent.core_model.checkpoints.official import OFFICIAL_MODEL_TYPES
from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration
from mgem_agent.core_model.configuration import HighResVisionConfig, MiniGeminiConfig
from mgem_agent.core_model.image_processing import MiniGeminiImageProcessor
from mgem_agent.core_model.modeling import MiniGeminiModel
from mgem_agent.core_model.processing import MiniGeminiProcessor

__all__: list[str] = []

AutoConfig.register(MiniGeminiConfig.model_type, MiniGeminiConfig)
AutoConfig.register(HighResVisionConfig.model_type, HighResVisionConfig)
AutoModel.register(MiniGeminiConfig, MiniGeminiModel)
AutoModelForImageTextToText.register(MiniGeminiConfig, MiniGeminiForConditionalGeneration)
# The pictures are resized by PIL in either case: the released weights know its pixels.
AutoImageProcessor.register(
    MiniGeminiConfig,
    image_processor_classes={"pil": MiniGeminiImageProcessor, "torchvision": MiniGeminiImageProcessor},
)
AutoProcessor.register(MiniGeminiConfig, MiniGeminiProcessor)
for name in OFFICIAL_MODEL_TYPES:
    CONFIG_MAPPING.register(name, MiniGeminiConfig, exist_ok=True)
