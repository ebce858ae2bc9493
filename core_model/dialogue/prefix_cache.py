"""The key-value cache of a growing sequence, and a record of its content.

Each position of the sequence has a key: a token's id, or for a visual token the number of its image. For a new
sequence, the longest common prefix of keys stays, the rest is cropped, and only new tokens are computed. An image is
kept in full or not at all.

Layers with a sliding window keep all tokens, so that they can be cropped; the mask alone applies the window. Recurrent
layers cannot return to an earlier token, so a model with such layers computes every sequence from its start.

Shapes: l tokens; d hidden size of the LLM.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling

if TYPE_CHECKING:
    from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration

__all__ = ["PrefixCache"]

_TOKENS_PER_PASS = 512
"""Tokens per pre-fill pass. It limits the memory of a pass and the time until a cancellation takes effect."""


class PrefixCache:
    """Keys and values of a sequence; later sequences reuse the longest common prefix.

    Args:
        model: The model that computes them.
    """

    def __init__(self, model: MiniGeminiForConditionalGeneration) -> None:
        layers = DynamicCache(config=model.config.text_config).layers
        self.is_reusable = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
        self._model = model
        self._num_image_tokens = model.config.geometry.num_image_tokens
        self._keys: list[int] = []
        self._cache = DynamicCache()

    @property
    def num_tokens(self) -> int:
        """Number of tokens whose keys and values are stored."""
        return len(self._keys)

    def reset(self) -> None:
        """Clear the cache."""
        self._keys = []
        self._cache = DynamicCache()

    def copy(self) -> PrefixCache:
        """Return an independent copy."""
        twin = copy.copy(self)
        twin._keys = list(self._keys)
        twin._cache = copy.deepcopy(self._cache)
        return twin

    def to(self, device: torch.device | str) -> None:
        """Move the keys and values to a device.

        Args:
            device: The device.
        """
        layers: list[Any] = self._cache.layers
        for layer in layers:
            for name in ("keys", "values"):
                if isinstance(tensor := getattr(layer, name, None), Tensor):
                    setattr(layer, name, tensor.to(device))

    def keep_common(self, keys: Sequence[int]) -> int:
        """Crop the cache to the prefix shared with a sequence, and return the number of tokens to reuse.

        Args:
            keys: One for each token; negative and the same throughout an image, its id for any other token. The last
                is never kept: the model must run on it to continue.
        """
        pairs = zip(self._keys, keys[:-1], strict=False)
        common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        common -= self._offset_in_image(keys, common)
        surplus = self.num_tokens - common
        if common == 0:
            self.reset()
        elif surplus:
            self._cache.crop(-surplus)
            del self._keys[common:]
        return common

    def prefill(
        self,
        input_ids: Tensor,
        keys: Sequence[int],
        features: Mapping[int, Tensor],
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Compute the new tokens of a sequence, except the last one.

        Args:
            input_ids: (1, l).
            keys: One for each token, as in :meth:`keep_common`, which must have been called with them.
            features: (tokens, d) of each image, by its key.
            is_cancelled: Called before each pass; once it returns true, nothing more is computed.
        """
        last = len(keys) - 1
        trunk = self._model.model
        try:
            while (start := self.num_tokens) < last and not is_cancelled():
                stop = min(start + _TOKENS_PER_PASS, last)
                with torch.no_grad():
                    trunk(
                        inputs_embeds=trunk.embed(input_ids[:, start:stop], self._rows(keys, start, stop, features)),
                        attention_mask=input_ids.new_ones((1, stop)),
                        cache=self._cache,
                        use_cache=True,
                    )
                self._keys = list(keys[:stop])
        except BaseException:
            self.reset()  # layers may hold different numbers of tokens now
            raise

    def arguments(self, keys: Sequence[int], features: Mapping[int, Tensor], *, is_reused: bool) -> dict[str, Any]:
        """Return the arguments of `generate` besides the prompt: the cache, and the images that are not in it.

        Args:
            keys: One for each token.
            features: (tokens, d) of each image, by its key.
            is_reused: Whether to use the cache, which must hold a prefix of the sequence.
        """
        past = {"cache": self._cache} if is_reused else {}
        rows = self._rows(keys, self.num_tokens if is_reused else 0, len(keys), features)
        if rows is None:
            return past
        encoded: Any = rows  # a list, one tensor for each image
        return past | {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=encoded)}}

    def extend(self, keys: Sequence[int]) -> None:
        """Record the part of a sequence that `generate` has put into the cache."""
        self._keys = list(keys[: self._cache.get_seq_length()])

    def _offset_in_image(self, keys: Sequence[int], index: int) -> int:
        """Return how many positions of the image at `index` come before it."""
        if index == 0 or keys[index] >= 0 or keys[index] != keys[index - 1]:
            return 0
        same = itertools.takewhile(lambda key: key == keys[index], reversed(keys[:index]))
        return sum(1 for _ in same) % self._num_image_tokens

    def _rows(self, keys: Sequence[int], start: int, stop: int, features: Mapping[int, Tensor]) -> list[Tensor] | None:
        """Return the visual tokens at the positions from start to stop, in pieces of (n, d); None if there are none."""
        rows = []
        place = start
        while place < stop:
            if keys[place] >= 0:
                place += 1
                continue
            first = self._offset_in_image(keys, place)
            count = min(self._num_image_tokens - first, stop - place)
            rows.append(features[keys[place]][first : first + count])
            place += count
        return rows or None
