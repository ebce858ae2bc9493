"""Registration with transformers' Auto classes, done once when this module is imported."""

from __future__ import annotations

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText

from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration
from mgem_agent.core_model.configuration import HighResVisionConfig, MiniGeminiConfig
from mgem_agent.core_model.modeling import MiniGeminiModel

__all__: list[str] = []

AutoConfig.register(MiniGeminiConfig.model_type, MiniGeminiConfig)
AutoConfig.register(HighResVisionConfig.model_type, HighResVisionConfig)
AutoModel.register(MiniGeminiConfig, MiniGeminiModel)
AutoModelForImageTextToText.register(MiniGeminiConfig, MiniGeminiForConditionalGeneration)
