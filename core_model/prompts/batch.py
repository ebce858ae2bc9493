"""Batch several prompts: assign pictures to prompts and pad the prompts to one length.

Shapes: b prompts, l tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from transformers.processing_utils import TextKwargs

from mgem_agent.core_model.image_processing import MiniGeminiImageKwargs
from mgem_agent.core_model.prompts.tokens import PromptTokens
from mgem_agent.errors import PromptError

__all__ = ["TEXT_OPTIONS", "PromptBatchOptions", "images_by_prompt", "pad_rows", "prompt_columns", "split_options"]


@dataclass(frozen=True)
class PromptBatchOptions:
    """Options of a call of the processor.

    Args:
        return_tensors: `pt` (the default), `np`, or None for lists.
        padding: True or `longest` (the default), `max_length`, or False.
        padding_side: `left` (the default), which generation needs, or `right`.
        max_length: Tokens for `padding="max_length"` and `truncation`.
        truncation: Whether to refuse a prompt longer than `max_length`. No prompt is ever truncated: that would lose
            part of an image, or the header after which the model answers.
        add_special_tokens: Whether the tokenizer's BOS and EOS are added (the default).
        return_mm_token_type_ids: Whether to return `mm_token_type_ids`, 1 for visual tokens and 0 for text.
        return_offsets_mapping: Whether to return `offset_mapping`, the span of each token in its prompt, in characters.
        return_text_replacement_offsets: Whether to return `text_replacement_offsets`, the span of each image's mark in
            its prompt and its replacement, as `ProcessorMixin` describes it.
        return_attention_mask: Whether to return `attention_mask` (the default).
        pad_to_multiple_of: Round the length of the batch up to a multiple of this; None does not round.
    """

    return_tensors: str | None = "pt"
    padding: bool | Literal["longest", "max_length", "do_not_pad"] = True
    padding_side: Literal["left", "right"] = "left"
    max_length: int | None = None
    truncation: bool = False
    add_special_tokens: bool = True
    return_mm_token_type_ids: bool = False
    return_offsets_mapping: bool = False
    return_text_replacement_offsets: bool = False
    return_attention_mask: bool = True
    pad_to_multiple_of: int | None = None


TEXT_OPTIONS = frozenset(field.name for field in fields(PromptBatchOptions))
MAX_SHOWN_CHARS = 60
GROUPS = ("common_kwargs", "text_kwargs", "images_kwargs")
OTHERS_GROUPS = ("audio", "audio_kwargs", "videos", "videos_kwargs")
IMAGE_OPTIONS = frozenset(MiniGeminiImageKwargs.__annotations__) - TEXT_OPTIONS
LIBRARY_OPTIONS = (frozenset(TextKwargs.__annotations__) | {*OTHERS_GROUPS, "load_audio_from_video"}) - TEXT_OPTIONS
"""Keywords of transformers' own processors that this one does not use."""


def split_options(kwargs: Mapping[str, Any]) -> tuple[PromptBatchOptions, dict[str, Any]]:
    """Split the keywords of a call into options for the prompts and options for the pictures.

    Args:
        kwargs: The keywords, alone or in the groups `text_kwargs`, `images_kwargs` and `common_kwargs`, as
            in transformers. An unused keyword of transformers without effect (None, False, {}) counts as absent.

    Returns:
        The complete options for the prompts, and the given options for the pictures.

    Raises:
        TypeError: If a keyword is unknown.
    """
    flat = {name: value for name, value in kwargs.items() if name not in GROUPS}
    for group in GROUPS:
        flat.update(kwargs.get(group) or {})
    neutral = {name for name, value in flat.items() if name in LIBRARY_OPTIONS and not value}
    flat = {name: value for name, value in flat.items() if name not in neutral}
    unknown = sorted(set(flat) - TEXT_OPTIONS - IMAGE_OPTIONS)
    if unknown:
        allowed = ", ".join(sorted(TEXT_OPTIONS | IMAGE_OPTIONS))
        raise TypeError(f"Unknown keyword {', '.join(map(repr, unknown))}. Allowed: {allowed}.")
    unset = {"max_length", "pad_to_multiple_of", "return_tensors"}  # None is a value only for these
    given: dict[str, Any] = {
        name: value for name, value in flat.items() if name in TEXT_OPTIONS and (value is not None or name in unset)
    }
    options = PromptBatchOptions(**given)
    return options, {name: value for name, value in flat.items() if name in IMAGE_OPTIONS}


def images_by_prompt(images: Any, counts: Sequence[int], prompts: Sequence[str], mark: str) -> list[list[Any]]:
    """Assign pictures to prompts.

    Args:
        images: None, one picture, a flat list for all prompts in order, or one list (or None) for each prompt.
        counts: Pictures that each prompt needs.
        prompts: The prompts, for messages.
        mark: The text that marks an image, for messages.

    Returns:
        One list for each prompt.

    Raises:
        PromptError: If a prompt gets more or fewer pictures than it needs.
    """
    advice = (
        f"Give one picture for each {mark!r}. In a dialogue, an image is a part of a message; "
        f"a mark typed as text is removed."
    )
    rows: list[list[Any]]
    if isinstance(images, (list, tuple)) and any(isinstance(row, (list, tuple)) for row in images):
        if len(images) != len(prompts):
            raise PromptError(f"There are {len(prompts)} prompts and {len(images)} lists of images. {advice}")
        rows = [list(row) if isinstance(row, (list, tuple)) else [] if row is None else [row] for row in images]
    else:
        flat = list(images) if isinstance(images, (list, tuple)) else [] if images is None else [images]
        if len(prompts) > 1 and len(flat) != sum(counts):
            needed = f"{sum(counts)} images ({', '.join(map(str, counts))})"
            raise PromptError(f"The {len(prompts)} prompts need {needed}, and {len(flat)} were given. {advice}")
        rows = []
        for count in counts:
            rows.append(flat[:count] if len(prompts) > 1 else flat)
            flat = flat[count:]
    for index, (row, count) in enumerate(zip(rows, counts, strict=True)):
        if len(row) != count:
            prompt = prompts[index]
            name = repr(prompt) if len(prompt) <= MAX_SHOWN_CHARS else f"{prompt[:MAX_SHOWN_CHARS]!r}…"
            raise PromptError(
                f"Prompt {index + 1}, {name}, needs {count} image(s), and {len(row)} were given. {advice}"
            )
    return rows


def prompt_columns(
    encoded: Sequence[PromptTokens], options: PromptBatchOptions, pad_ids: Sequence[int | None]
) -> dict[str, list[list[Any]]]:
    """Pad encoded prompts to one length.

    Args:
        encoded: The prompts.
        options: Complete options of the call.
        pad_ids: Candidates for the padding id; the first that is not None is used.

    Returns:
        `input_ids` and `attention_mask`, as lists of b lists; and `offset_mapping` if the options ask for it.

    Raises:
        PromptError: If the prompts cannot form a tensor, or one is too long.
    """
    rows = [prompt.input_ids for prompt in encoded]
    width = batch_width(rows, options)
    known = [id_ for id_ in pad_ids if id_ is not None]
    if not known and any(len(row) < width for row in rows):
        raise PromptError(
            "The tokenizer has no padding token and no EOS to pad prompts of different lengths with. "
            "Set its pad_token, or process the prompts one at a time."
        )
    side = options.padding_side
    columns = {
        "input_ids": pad_rows(rows, width, known[0] if known else 0, side),
        "attention_mask": pad_rows([[1] * len(row) for row in rows], width, 0, side),
    }
    if options.return_offsets_mapping:
        columns["offset_mapping"] = pad_rows([prompt.offsets or [] for prompt in encoded], width, (0, 0), side)
    return columns


def batch_width(rows: Sequence[Sequence[int]], options: PromptBatchOptions) -> int:
    """Return the length to pad rows to; 0 for no padding."""
    longest, limit, padding = max(map(len, rows)), options.max_length, options.padding
    if options.truncation and limit is not None and longest > limit:
        raise PromptError(
            f"A prompt has {longest} tokens and max_length is {limit}. It is not truncated, because that would lose "
            f"part of an image or of the last turn. Shorten it, or raise max_length."
        )
    if padding == "max_length":
        if limit is None:
            raise PromptError("padding='max_length' needs max_length. Give it, or use padding=True.")
        return _rounded_up(max(longest, limit), options.pad_to_multiple_of)
    if padding not in (False, "do_not_pad"):
        return _rounded_up(longest, options.pad_to_multiple_of)
    if options.return_tensors is not None and len(set(map(len, rows))) > 1:
        raise PromptError(
            "Prompts of different lengths cannot form a tensor. Use padding=True, or return_tensors=None."
        )
    return 0


def _rounded_up(length: int, multiple: int | None) -> int:
    return length if multiple is None else -(-length // multiple) * multiple


def pad_rows(rows: Sequence[Sequence[Any]], width: int, value: Any, side: str) -> list[list[Any]]:
    """Pad rows to a width with a value, on the left or on the right."""
    fillings = [[value] * (width - len(row)) for row in rows]
    return [
        [*filling, *row] if side == "left" else [*row, *filling] for filling, row in zip(fillings, rows, strict=True)
    ]
