# pyright: reportMissingImports=false
"""Mini-Gemini on vLLM's Transformers backend; vLLM imports this module in its own processes.

It adds three things to the backend:

- **Ids of visual tokens are not embedded.** They lie outside the vocabulary in most checkpoints, and one that comes
  without a picture would otherwise end the engine.
- **The high-resolution encoder, mining and the reader keep torch's layers**, which they use in other ways than vLLM's
  allow.
- **A folder whose tokenizer does not know the mark of an image is refused** at the start, because vLLM would not find
  the pictures.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from vllm.model_executor.models.transformers.causal import CausalMixin
from vllm.model_executor.models.transformers.multimodal import (
    MultiModalDummyInputsBuilder,
    MultiModalMixin,
    MultiModalProcessingInfo,
    MultiModalProcessor,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from mgem_agent.core_model import MiniGeminiProcessor
from mgem_agent.scale.vllm_plugin import require_mark

__all__ = ["MiniGeminiForVllm"]

_KEPT = ("high_res_vision_tower", "mining", "reader")
"""Parts of the model that keep torch's layers."""


class MiniGeminiProcessingInfo(MultiModalProcessingInfo):  # type: ignore[misc]
    """What vLLM asks about pictures; it refuses a folder whose tokenizer does not know their mark."""

    def get_hf_processor(self, **kwargs: object) -> MiniGeminiProcessor:
        """Return this package's processor.

        Raises:
            CheckpointError: If the tokenizer does not turn the mark of an image into the id of a visual token.
        """
        processor: MiniGeminiProcessor = super().get_hf_processor(**kwargs)
        require_mark(self.get_tokenizer(), processor, self.model_id)
        return processor


@MULTIMODAL_REGISTRY.register_processor(
    MultiModalProcessor, info=MiniGeminiProcessingInfo, dummy_inputs=MultiModalDummyInputsBuilder
)
class MiniGeminiForVllm(MultiModalMixin, CausalMixin):  # type: ignore[misc]
    """The model that vLLM runs."""

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        """Return the text that marks a picture in a prompt without a chat template."""
        return "<image>" if modality.startswith("image") else None

    def recursive_replace(self) -> None:
        """Replace layers by vLLM's, other than those of the high-resolution encoder, of mining and of the reader.

        Mining multiplies by the weights of its projections, which vLLM's layers may pack or quantize.
        """
        parts = {name: getattr(self.model, name) for name in _KEPT}
        for name in parts:
            setattr(self.model, name, None)
        try:
            super().recursive_replace()
        finally:
            for name, part in parts.items():
                setattr(self.model, name, part)

    def embed_input_ids(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Embed token ids, with the rows of visual tokens for pictures if they are given."""
        known = input_ids.masked_fill(input_ids == self.config.image_token_id, 0)
        embedded: Tensor = super().embed_input_ids(known, *args, **kwargs)
        return embedded
