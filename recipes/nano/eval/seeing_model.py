"""A model that answers questions about pictures, in batches, with greedy decoding.

It is loaded from a whole model, or from a folder without the language model's weights, like nano's. A baseline without
high resolution gets pictures scaled down to its low resolution, so its high-resolution input has no additional detail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from PIL import Image

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.core_model.checkpoints.partial_checkpoint import lacks_language_model
from mgem_agent.core_model.dialogue.streaming import ending_options, input_device
from mgem_agent.user_files import user_path

__all__ = ["SeeingModel", "find_weights", "loading_options"]

_MAX_NEW_TOKENS = 24
_GREEDY = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


def find_weights(name: str) -> str:
    """Return the folder or hub id of a whole model.

    Args:
        name: `nano`; a folder, whole or without the language model's own weights (`mgem train export --small`); or a
            hub id.

    Raises:
        CheckpointError: If nano's weights or its language model are missing, or weights cannot be read.
    """
    from mgem_agent.nano import find_nano

    if name == "nano":
        return str(find_nano())
    folder = user_path(name)
    if not folder.is_dir():
        return name
    return str(find_nano(folder=folder) if lacks_language_model(folder) else folder)


def loading_options() -> dict[str, Any]:
    """Return options to load weights: bfloat16 on GPUs, otherwise float32."""
    if torch.cuda.is_available():
        return {"dtype": torch.bfloat16, "device_map": "auto"}
    return {"dtype": torch.float32}


class SeeingModel:
    """Answers questions about pictures.

    Args:
        model: The model, in evaluation mode.
        processor: Its processor.
        low_res_only: Whether to scale pictures down to its low resolution.
    """

    def __init__(
        self,
        model: MiniGeminiForConditionalGeneration,
        processor: MiniGeminiProcessor,
        *,
        low_res_only: bool = False,
    ) -> None:
        self.model = model
        self.processor = processor
        self.low_res_only = low_res_only

    @classmethod
    def open(cls, name: str, *, low_res_only: bool = False) -> Self:
        """Load a model.

        Args:
            name: As for :func:`find_weights`.
            low_res_only: As for the class.

        Raises:
            CheckpointError: If there is no such model, or its weights are missing or do not fit.
        """
        weights = find_weights(name)
        model = MiniGeminiForConditionalGeneration.from_pretrained(weights, **loading_options()).eval()
        processor = MiniGeminiProcessor.from_pretrained(weights)
        return cls(model, processor, low_res_only=low_res_only)

    @torch.inference_mode()
    def answer(self, pictures: Sequence[Image.Image], questions: Sequence[str]) -> list[str]:
        """Return an answer to each question about its picture.

        Args:
            pictures: One for each question.
            questions: The questions.
        """
        dialogues = [
            [{"role": "user", "content": [{"type": "image", "image": self._shown(picture)}, _text(question)]}]
            for picture, question in zip(pictures, questions, strict=True)
        ]
        inputs: Any = self.processor.apply_chat_template(
            dialogues, add_generation_prompt=True, tokenize=True, return_dict=True, padding_side="left"
        ).to(input_device(self.model), self.model.dtype)
        asked = {**_GREEDY, "max_new_tokens": _MAX_NEW_TOKENS}
        options = ending_options(self.model, self.processor, asked)
        pixels = {name: inputs.pop(name) for name in ("pixel_values", "high_res_pixel_values") if name in inputs}
        seen: Any = self.model.get_image_features(**pixels)
        asked_of = [[tokens] for tokens in seen.pooler_output]
        forced = self.model.forced_answer(asked_of, self.processor.tokenizer, options["eos_token_id"])
        if forced is not None:
            options["logits_processor"] = [forced]
        produced = self.model.generate(**inputs, mm_encoder_outputs={"image": seen}, **options)
        texts = self.processor.batch_decode(produced[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in texts]

    @torch.inference_mode()
    def features(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """Return (n, c) the mean of the visual tokens of each picture, before the projector.

        Args:
            pictures: The pictures.
        """
        inputs = self.processor.image_processor([self._shown(picture) for picture in pictures], return_tensors="pt").to(
            input_device(self.model), self.model.dtype
        )
        seen = self.model.get_image_features(inputs["pixel_values"], inputs["high_res_pixel_values"])
        tokens: Any = seen.last_hidden_state
        return tokens.mean(1).cpu()

    def _shown(self, picture: Image.Image) -> Image.Image:
        if not self.low_res_only:
            return picture
        side = self.model.config.geometry.low_res_input_size
        return picture.resize((min(side, picture.width), min(side, picture.height)), Image.Resampling.BICUBIC)


def _text(question: str) -> dict[str, str]:
    return {"type": "text", "text": question}
