"""A cache of encoded images, so that no picture is prepared or encoded twice.

The hash of its pixels identifies a picture: the same picture from another file, or in a later round, is the same image.
Prepared pixels are kept until they are encoded; then only the visual tokens are kept.

Shapes: d hidden size of the LLM.
"""

from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mgem_agent.core_model.dialogue.streaming import input_device
from mgem_agent.core_model.image_loading import load_image

if TYPE_CHECKING:
    from PIL import Image

    from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration
    from mgem_agent.core_model.processing import MiniGeminiProcessor

__all__ = ["ImageMemory"]

_NUM_SPARE = 8
"""Number of images kept after no message shows them, in case they return after an undo."""


class ImageMemory:
    """Visual tokens by image.

    Args:
        model: Encodes images.
        processor: Prepares them.
    """

    def __init__(self, model: MiniGeminiForConditionalGeneration, processor: MiniGeminiProcessor) -> None:
        self._model = model
        self._processor = processor
        self._keys: dict[bytes, int] = {}
        self._waiting: dict[int, Image.Image] = {}
        self.features: OrderedDict[int, Tensor] = OrderedDict()
        """(tokens, d) of each encoded image, by its key; the most recently used come last."""

    def copy(self) -> ImageMemory:
        """Return an independent copy that shares the tensors."""
        twin = copy.copy(self)
        twin._keys, twin._waiting, twin.features = dict(self._keys), dict(self._waiting), self.features.copy()
        return twin

    def to(self, device: torch.device | str) -> None:
        """Move the visual tokens to a device.

        Args:
            device: The device.
        """
        for key, tokens in self.features.items():
            self.features[key] = tokens.to(device)

    def add(self, source: Any) -> int:
        """Read a picture and return its key, a negative number; nothing is encoded yet.

        Args:
            source: As `load_image` takes it.

        Raises:
            ImageError: If it cannot be read.
        """
        picture = load_image(source)
        digest = hashlib.sha256(repr(picture.size).encode())
        digest.update(picture.tobytes())
        key = self._keys.setdefault(digest.digest(), -1 - len(self._keys))
        if key not in self.features:
            self._waiting[key] = picture
        return key

    def encode(self, keys: Collection[int]) -> None:
        """Encode the added images that are not encoded yet, as one batch.

        Args:
            keys: What :meth:`add` returned for each.
        """
        new = [key for key in dict.fromkeys(keys) if key not in self.features]
        if new:
            prepared = self._processor.image_processor([self._waiting[key] for key in new], return_tensors="pt")
            with torch.no_grad():
                output: Any = self._model.get_image_features(**prepared.to(input_device(self._model)))
            for key, rows in zip(new, output.pooler_output, strict=True):
                self.features[key] = rows.clone() if len(new) > 1 else rows  # dropping one then frees its memory
                del self._waiting[key]
        for key in keys:
            self.features.move_to_end(key)

    def retain(self, shown: Collection[int]) -> None:
        """Drop pictures that were never encoded and images that have not been shown for long.

        Args:
            shown: Keys of the images that the dialogue shows.
        """
        self._waiting.clear()
        spare = [key for key in self.features if key not in shown]
        for key in spare[: max(0, len(spare) - _NUM_SPARE)]:
            del self.features[key]
