"""The number of context tokens that a picture takes, without loading the model."""

from __future__ import annotations

from mgem_agent.errors import InputError
from mgem_agent.user_files import user_path

__all__ = ["tokens_a_picture"]


def tokens_a_picture(model: str) -> int | None:
    """Return the number of tokens per picture, or None if only the model's server knows it.

    Args:
        model: The reasoner's name in the settings.

    Examples:
        >>> tokens_a_picture("YanweiLi/MGM-7B-HD"), tokens_a_picture("openai:gpt-5")
        (2880, None)
    """
    from mgem_agent.core_model.checkpoints.released import find_released
    from mgem_agent.nano.vision_language import VLM_WEIGHTS

    try:
        return find_released(model).num_image_tokens
    except InputError:
        folder = VLM_WEIGHTS if model == "nano" else user_path(model)
    if not folder.is_dir():
        return None
    from mgem_agent.core_model.configuration import MiniGeminiConfig

    config = MiniGeminiConfig.from_pretrained(folder)
    return int(config.geometry.num_image_tokens)
