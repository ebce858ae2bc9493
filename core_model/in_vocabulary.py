"""Keep the parts of `generate` that index by token id within the vocabulary.

The id of an image token lies outside the vocabulary, so logits and embeddings have no row for it. Parts that read the
prompt's ids therefore see an ordinary token, `stand_in`, in its place. These are logits processors and candidate
generators (prompt lookup, an assistant model); the model still checks the candidates with the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation import utils as generation_utils
from transformers.generation.candidate_generator import CandidateGenerator

from mgem_agent.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from mgem_agent.core_model.configuration import MiniGeminiConfig

__all__ = [
    "ImageTokenMap",
    "InVocabularyCandidates",
    "InVocabularyProcessors",
    "NewTokensProcessor",
    "check_options",
    "chunks_pictures",
    "without_images",
]

_IMAGE_INPUTS = ("high_res_pixel_values", "mm_encoder_outputs", "mm_token_type_ids", "pixel_values")

_UNSUPPORTED = {
    "assistant_early_exit": "the model cannot exit at an early layer",
    "use_mtp": "the model has no heads that predict several tokens",
}
"""Options of `generate` that this model does not support, each with the reason."""


class ImageTokenMap:
    """Replace image tokens with an ordinary token.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: MiniGeminiConfig) -> None:
        bos = config.text_config.bos_token_id
        self.image_token_id = config.image_token_id
        self.stand_in = bos if isinstance(bos, int) and 0 <= bos < config.text_config.vocab_size else 0

    def __call__(self, input_ids: Tensor) -> Any:
        """Return ids (b, l) within the vocabulary."""
        return input_ids.masked_fill(input_ids == self.image_token_id, self.stand_in)


class NewTokensProcessor(LogitsProcessor):
    """A logits processor that sees only new tokens, not the `num_prompt` tokens of the prompt."""

    def __init__(self, processor: LogitsProcessor, num_prompt: int) -> None:
        self.processor = processor
        self.num_prompt = num_prompt

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return the processed scores (b, vocabulary)."""
        result: Any = self.processor(input_ids[:, self.num_prompt :], scores)
        return result


class InVocabularyProcessors(LogitsProcessorList):
    """Logits processors that see an ordinary token wherever the prompt has an image token."""

    def __init__(self, processors: LogitsProcessorList, mapped: ImageTokenMap) -> None:
        super().__init__(processors)
        self.mapped = mapped

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        """Return the processed scores (b, vocabulary).

        Raises:
            CheckpointError: If the model's logits are NaN.
        """
        if scores.amax().isnan():  # the largest is NaN if any is
            raise CheckpointError(
                "The model computed NaN logits. Its weights may be damaged: download or export them again. Or its "
                "data type overflows: load it with dtype float32 or bfloat16."
            )
        mapped: Any = self.mapped(input_ids)
        result: Any = super().__call__(mapped, scores, **kwargs)
        return result


class InVocabularyCandidates(CandidateGenerator):
    """Wrap a candidate generator, which sees an ordinary token wherever the prompt has an image token."""

    def __init__(self, generator: CandidateGenerator, mapped: ImageTokenMap) -> None:
        self.generator = generator
        self.mapped = mapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self.generator, name)

    def get_candidates(self, input_ids: Any, **kwargs: Any) -> Any:
        """Return the ids (1, l + candidates), and the scores of the candidates or None."""
        mapped: Any = self.mapped(input_ids)
        candidates, scores = self.generator.get_candidates(mapped, **kwargs)
        proposed = candidates[:, input_ids.shape[1] :].to(input_ids.device)
        return torch.cat([input_ids, proposed], dim=1), scores

    def update_candidate_strategy(self, input_ids: Any, scores: Any, num_matches: int) -> None:
        """Tell the generator how many of its candidates the model accepted."""
        mapped: Any = self.mapped(input_ids)
        self.generator.update_candidate_strategy(mapped, scores, num_matches)


def without_images(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs for a text-only language model.

    Args:
        inputs: Keyword arguments of the core model's `forward`.
    """
    return {name: value for name, value in inputs.items() if name not in _IMAGE_INPUTS}


def chunks_pictures() -> bool:
    """Return whether transformers can read a prompt with pictures in chunks, as from release 5.23 on."""
    return hasattr(generation_utils, "_slice_mm_encoder_output")


def check_options(config: MiniGeminiConfig, options: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse options of `generate` that this model does not support.

    Args:
        config: The model's configuration.
        options: The generation configuration.
        arguments: Keyword arguments of `generate`, which take precedence.

    Raises:
        InputError: If there is such an option.
    """
    for name, reason in _UNSUPPORTED.items():
        if arguments.get(name, getattr(options, name, None)):
            raise InputError(f"The option {name!r} of generate does not work here: {reason}. Leave it out.")
    prompt = arguments.get("input_ids")
    shows = isinstance(prompt, Tensor) and bool((prompt == config.image_token_id).any())
    chunk = arguments.get("prefill_chunk_size", getattr(options, "prefill_chunk_size", None))
    if shows and chunk and not chunks_pictures():
        raise InputError(
            "The option 'prefill_chunk_size' of generate does not work with pictures in transformers "
            f"{transformers.__version__}. Leave it out, or install transformers 5.23 or newer."
        )
    assistant = arguments.get("assistant_model")
    if assistant is not None and assistant.config.model_type == config.model_type:
        raise InputError(
            "assistant_model must be a text-only causal language model with the same tokenizer, such as "
            f"AutoModelForCausalLM loads; got a {type(assistant).__name__!r}, which would need the pictures encoded "
            "in its own way."
        )
