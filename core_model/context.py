"""How much of the language model's context a prompt takes, checked before any computation."""

from __future__ import annotations

from torch import Tensor

from mgem_agent.core_model.configuration import MiniGeminiConfig
from mgem_agent.errors import ContextOverflowError

__all__ = ["check_context", "max_context"]


def max_context(config: MiniGeminiConfig) -> int | None:
    """Return how many tokens the language model can hold, or None if its configuration sets no limit."""
    limit: int | None = getattr(config.text_config, "max_position_embeddings", None)
    return limit


def check_context(
    config: MiniGeminiConfig, input_ids: Tensor, attention_mask: Tensor | None, max_new_tokens: int
) -> None:
    """Refuse a prompt that, with the requested tokens, is longer than the context.

    The authors' code truncates such a prompt at its end, and so loses the header that makes the model answer.

    Args:
        config: The model's configuration.
        input_ids: (b, l) prompts.
        attention_mask: (b, l), 0 at padding; None means no padding.
        max_new_tokens: Tokens to be generated.

    Raises:
        ContextOverflowError: For the longest prompt of the batch.
    """
    limit = max_context(config)
    if limit is None:
        return
    attended = input_ids.new_ones(input_ids.shape) if attention_mask is None else attention_mask.to(input_ids.device)
    lengths = attended[:, : input_ids.shape[1]].ne(0).sum(-1)
    row = int(lengths.argmax())
    length = int(lengths[row])
    if length + max_new_tokens <= limit:
        return
    num_image_tokens = int((input_ids[row] == config.image_token_id).sum())
    raise ContextOverflowError(
        num_text_tokens=length - num_image_tokens,
        num_image_tokens=num_image_tokens,
        num_images=num_image_tokens // config.geometry.num_image_tokens,
        max_new_tokens=max_new_tokens,
        max_context=limit,
    )
