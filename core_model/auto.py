"""All classes registered with transformers' Auto classes; the module that defines a class registers it."""

from __future__ import annotations

from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration
from mgem_agent.core_model.configuration import HighResVisionConfig, MiniGeminiConfig
from mgem_agent.core_model.image_processing import MiniGeminiImageProcessor
from mgem_agent.core_model.modeling import MiniGeminiModel
from mgem_agent.core_model.processing import MiniGeminiProcessor

__all__ = [
    "HighResVisionConfig",
    "MiniGeminiConfig",
    "MiniGeminiForConditionalGeneration",
    "MiniGeminiImageProcessor",
    "MiniGeminiModel",
    "MiniGeminiProcessor",
]
