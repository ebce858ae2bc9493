"""Prompts longer than a text encoder's limit: tokens are always counted, and CLIP encodes long prompts in pieces.

CLIP reads 77 tokens, two of them special. Captions of language models are longer. For pipelines with only CLIP text
encoders, the prompt is encoded in pieces of 75 tokens and the embeddings are concatenated; cross-attention takes any
length. Other pipelines (T5, Gemma, Qwen) truncate at their own limit; a notice reports how many tokens were cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["count_chunks", "encode_in_chunks", "find_limit"]


@dataclass(frozen=True, slots=True)
class PromptLimit:
    """The token limit of a pipeline.

    Attributes:
        tokenizer: The tokenizer of the text encoder with the highest limit.
        max_tokens: Its limit, special tokens included.
        chat_template: Whether the prompt is put into the tokenizer's chat template, whose tokens count too.
    """

    tokenizer: Any
    max_tokens: int
    chat_template: bool = False

    def count(self, prompt: str) -> int:
        """Count the tokens of a prompt, special tokens included."""
        if self.chat_template:
            message = [{"role": "user", "content": prompt}]
            prompt = self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        return len(self.tokenizer(prompt, verbose=False).input_ids)


def find_limit(pipeline: Any, max_sequence_length: int | None, *, chat_template: bool = False) -> PromptLimit | None:
    """Find the token limit of a pipeline.

    Args:
        pipeline: The loaded pipeline.
        max_sequence_length: The value of this argument in the call, for encoders other than CLIP.
        chat_template: Whether it puts prompts into the tokenizer's chat template.

    Returns:
        The highest limit of its text encoders, or None if there is no limit.
    """
    limits = []
    for part, tokenizer in pipeline.components.items():
        if "tokenizer" not in part or not hasattr(tokenizer, "model_max_length"):
            continue
        # A folder may lack an encoder, to save memory; its tokenizer is then not used.
        encoder = pipeline.components.get(part.replace("tokenizer", "text_encoder"))
        if encoder is None:
            continue
        own = int(tokenizer.model_max_length)
        is_clip = "CLIP" in type(encoder).__name__
        limits.append(PromptLimit(tokenizer, own if is_clip else (max_sequence_length or own), chat_template))
    # Where a tokenizer names no length it says 1e30, and nothing is cut.
    limits = [limit for limit in limits if limit.max_tokens < 1_000_000]
    return max(limits, key=lambda limit: limit.max_tokens, default=None)


def count_chunks(pipeline: Any, prompts: Sequence[str]) -> int:
    """Return the number of pieces that CLIP needs for the longest prompt; 1 if none is too long."""
    return max(
        (
            len(_split(tokenizer, prompt))
            for tokenizer, _ in _encoders(pipeline)
            for prompt in prompts
        ),
        default=1,
    )  # fmt: skip


def encode_in_chunks(
    pipeline: Any,
    prompts: Sequence[str],
    negatives: Sequence[str] | None,
    *,
    num_chunks: int,
    clip_skip: int | None = None,
) -> dict[str, torch.Tensor]:
    """Encode prompts of any length for a pipeline with only CLIP text encoders.

    Legend: b prompts, k pieces, n = 77 tokens a piece, d features of all encoders together.

    Args:
        pipeline: A pipeline of the Stable Diffusion 1 or XL family.
        prompts: What to draw.
        negatives: What not to draw, one for each prompt; None where there are none.
        num_chunks: Pieces, k; short prompts are padded with empty ones.
        clip_skip: Layers to leave out at the end of the encoders, for the prompts.

    Returns:
        Arguments of the call: prompt_embeds and negative_prompt_embeds (b, k * n, d); for XL also pooled_prompt_embeds
        and negative_pooled_prompt_embeds (b, d of the last encoder), which are those of the first piece.
    """
    import torch

    with torch.no_grad():
        embeds, pooled = _encode(pipeline, prompts, num_chunks, clip_skip)
        if negatives is None and pipeline.config.get("force_zeros_for_empty_prompt"):
            negative_embeds = torch.zeros_like(embeds)
            negative_pooled = None if pooled is None else torch.zeros_like(pooled)
        else:
            negative_embeds, negative_pooled = _encode(pipeline, negatives or [""] * len(prompts), num_chunks, None)
    encoded = {"prompt_embeds": embeds, "negative_prompt_embeds": negative_embeds}
    if pooled is not None and negative_pooled is not None:
        encoded.update(pooled_prompt_embeds=pooled, negative_pooled_prompt_embeds=negative_pooled)
    return encoded


def _encoders(pipeline: Any) -> list[tuple[Any, Any]]:
    """Tokenizers with their encoders; the refiner of XL lacks the first."""
    parts = pipeline.components
    pairs = [(parts.get(f"tokenizer{end}"), parts.get(f"text_encoder{end}")) for end in ("", "_2")]
    return [(tokenizer, encoder) for tokenizer, encoder in pairs if tokenizer is not None and encoder is not None]


def _split(tokenizer: Any, prompt: str) -> list[list[int]]:
    """Token ids in pieces, each as long as the encoder reads less its two marks; at least one piece."""
    room = tokenizer.model_max_length - 2
    ids = tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
    return [ids[start : start + room] for start in range(0, max(len(ids), 1), room)]


def _encode(
    pipeline: Any, prompts: Sequence[str], num_chunks: int, clip_skip: int | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    import torch

    is_xl = "text_encoder_2" in pipeline.components
    embeds, pooled = [], None
    for tokenizer, encoder in _encoders(pipeline):
        ids = torch.tensor([_pad(tokenizer, prompt, num_chunks) for prompt in prompts])  # (b, k, n)
        # Offloaded layer by layer an encoder is nowhere; its hooks then bring the ids to where it runs.
        device = "cpu" if encoder.device.type == "meta" else encoder.device
        output = encoder(ids.flatten(0, 1).to(device), output_hidden_states=True)
        if is_xl:
            hidden = output.hidden_states[-2 - (clip_skip or 0)]
            if output[0].ndim == 2:
                pooled = output[0].unflatten(0, ids.shape[:2])[:, 0]
        elif clip_skip is None:
            hidden = output.last_hidden_state
        else:
            inner = getattr(encoder, "text_model", encoder)
            hidden = inner.final_layer_norm(output.hidden_states[-1 - clip_skip])
        embeds.append(hidden.unflatten(0, ids.shape[:2]).flatten(1, 2))  # (b, k * n, d of this encoder)
    return torch.cat(embeds, dim=-1), pooled


def _pad(tokenizer: Any, prompt: str, num_chunks: int) -> list[list[int]]:
    pieces = _split(tokenizer, prompt)
    pieces += [[]] * (num_chunks - len(pieces))
    rows = [[tokenizer.bos_token_id, *piece, tokenizer.eos_token_id] for piece in pieces]
    return [row + [tokenizer.pad_token_id] * (tokenizer.model_max_length - len(row)) for row in rows]
