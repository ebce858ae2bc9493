"""Fast single-token decoding on a CPU for language models of the LLaMA family.

The cost of a token there is reading every weight once and, in a small model, the calls between the products. So:

- **Fewer bytes.** The weights process the prompt as they are. For single tokens there are copies of the matrices: in 2
  bytes per weight, without rounding, and in 4 bits (`cpu_products`).
- **Fewer passes.** The 4 bits guess some tokens, and the exact weights check them in one pass (`cpu_drafts`). So the
  tokens are those of the exact weights, except for ties.
- **Fewer calls** between the products (`cpu_step`).

The copies take some seconds, so they are made only once a process has decoded some tokens, a layer for each token
after that: loading and short answers pay nothing. `exact` makes none. `check=False` uses the tokens of quantized
weights without a check: 4 bits if the matrices lie on such a grid (as in a GGUF file of type Q4_1), otherwise 8.

`generate`, streaming and the key-value cache are those of transformers. Only the forward pass of the trunk and the head
is replaced, and only for one token of one prompt.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, LlamaModel
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutputWithPast

from mgem_agent.core_model.cache_name import CACHE_NAME
from mgem_agent.core_model.cpu_drafts import Ahead, GuessRate, look_ahead
from mgem_agent.core_model.cpu_products import (
    Product,
    exact_product,
    four_bit_product,
    grid_product,
    has_kernels,
    row_product,
)
from mgem_agent.core_model.cpu_step import Layer, Step, rooms

if TYPE_CHECKING:
    from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration

__all__ = ["TOKENS_BEFORE_COPIES", "CpuDecoding", "enable_cpu_decoding"]

TOKENS_BEFORE_COPIES = 48
"""Tokens that a process decodes before it makes copies; short commands never need them."""

_HANDLED = ("attention_mask", "inputs_embeds", CACHE_NAME, "position_ids", "use_cache", "return_dict")


def enable_cpu_decoding(
    model: MiniGeminiForConditionalGeneration, *, exact: bool = False, check: bool = True
) -> CpuDecoding | None:
    """Turn on fast decoding for a model.

    Args:
        model: The model, loaded in float32 on the CPU. Prompt processing and saving do not change.
        exact: Whether to multiply by the float32 weights themselves, without guesses.
        check: Whether exact weights check the tokens of the quantized ones.

    Returns:
        The object that can turn it off again; None if the model is not supported and was left unchanged.
    """
    trunk: Any = model.model.language_model
    head: Any = model.get_output_embeddings()
    if not _is_fitting(trunk, head):
        return None
    return CpuDecoding(trunk, head, exact=exact or not has_kernels(), check=check)


class CpuDecoding:
    """Fast decoding of one model, which can be turned on and off.

    Args:
        trunk: A LLaMA without a head.
        head: Its head.
        exact: Whether to multiply by the float32 weights.
        check: Whether exact weights check the tokens of the quantized ones.

    Attributes:
        exact: As given.
        check: As given.
        guesses: How many guesses were right.
    """

    def __init__(self, trunk: LlamaModel, head: nn.Linear, *, exact: bool, check: bool) -> None:
        self.exact, self.check = exact, check
        self.guesses = GuessRate()
        self._trunk, self._head = trunk, head
        self._step = Step(trunk)
        make = _plain if exact or check else _quantized
        self._layers = [Layer(layer, make, is_joined=make is _quantized) for layer in trunk.layers]
        self._score = make(head.weight.detach())
        self._copies = _Copies(trunk, head, self._layers) if check and not exact else None
        self._ahead: WeakKeyDictionary[DynamicCache, Ahead] = WeakKeyDictionary()
        self._last = threading.local()
        self.install()

    def install(self) -> None:
        """Turn fast decoding on."""
        self._trunk.__dict__["forward"] = self._through_trunk
        self._head.__dict__["forward"] = self._through_head

    def remove(self) -> None:
        """Turn fast decoding off."""
        for module in (self._trunk, self._head):
            module.__dict__.pop("forward", None)

    def _through_trunk(self, *args: Any, **kwargs: Any) -> Any:
        self._last.row = None
        if args or not _is_one_token(kwargs):
            return type(self._trunk).forward(self._trunk, *args, **kwargs)
        cache: Any = kwargs[CACHE_NAME]
        hidden = self._output(kwargs["inputs_embeds"][0], kwargs.get("position_ids"), cache)
        return BaseModelOutputWithPast(last_hidden_state=hidden[None], **{CACHE_NAME: cache})

    def _output(self, embedded: Tensor, position_ids: Tensor | None, cache: DynamicCache) -> Tensor:
        """Return the output (1, d) at a token (1, d), and add its keys and values to the cache."""
        start = cache.get_seq_length() if position_ids is None else position_ids[:, -1:]
        copies = self._copies
        if copies is None or not copies.are_complete():
            past, places = cache.get_seq_length(), rooms(cache, 1)
            hidden = self._step(embedded, self._step.rotations(start, 1), self._layers, places, past)
            for room, layer in zip(places, cache.layers, strict=True):
                room.show(layer, past + 1)
            return hidden
        ahead = self._ahead.get(cache)
        place = None if ahead is None else ahead.use(embedded, cache)
        if ahead is None or place is None:
            if ahead is not None:
                self.guesses.record(ahead)
            ahead = self._ahead[cache] = look_ahead(
                embedded,
                cache,
                step=self._step,
                start=start,
                number=self.guesses.best_number(),
                exact=(self._layers, copies.exact_head),
                quick=(copies.quick_layers, copies.quick_head),
                embed=self._trunk.embed_tokens,
            )
            place = ahead.use(embedded, cache) or 0  # always the first
        row = ahead.hidden[place : place + 1]
        self._last.row = (row, ahead.scores[place])
        return row

    def _through_head(self, input: Tensor) -> Tensor:
        if torch.is_grad_enabled() or input.shape[:-1].numel() != 1:
            return F.linear(input, self._head.weight)
        row = getattr(self._last, "row", None)
        if row is not None and input.data_ptr() == row[0].data_ptr():
            scores = row[1]
        else:
            scores = self._score(input.reshape(1, -1)).float()
        return scores.view(*input.shape[:-1], -1)


class _Copies:
    """Copies of the matrices for guesses and their checks, made a layer at a time.

    Args:
        trunk: A LLaMA without a head.
        head: Its head.
        layers: The layers as they are; each is replaced once its copy is made.
    """

    def __init__(self, trunk: LlamaModel, head: nn.Linear, layers: list[Layer]) -> None:
        self.quick_layers: list[Layer] = []
        self.quick_head: Product = _plain(head.weight.detach())
        self.exact_head: Product = self.quick_head
        self._trunk, self._head, self._layers = trunk, head, layers
        self._num_tokens = 0
        self._is_complete = False
        self._lock = threading.Lock()

    def are_complete(self) -> bool:
        """Return whether all copies are made; make the next one if not. Call it once for each token."""
        if self._is_complete:
            return True
        with self._lock:
            self._num_tokens += 1
            place = len(self.quick_layers)
            if self._num_tokens <= TOKENS_BEFORE_COPIES:
                return False
            if place < len(self._layers):
                layer = self._trunk.layers[place]
                self._layers[place] = Layer(layer, exact_product)
                self.quick_layers.append(Layer(layer, four_bit_product))
            elif not self._is_complete:
                self.exact_head = exact_product(self._head.weight.detach())
                self.quick_head = four_bit_product(self._head.weight.detach())
                self._is_complete = True
        return False


def _plain(weight: Tensor) -> Product:
    return lambda hidden: F.linear(hidden, weight)


def _quantized(weight: Tensor) -> Product:
    return grid_product(weight) or row_product(weight)


def _is_fitting(trunk: Any, head: Any) -> bool:
    if type(trunk) is not LlamaModel or type(head) is not nn.Linear or head.bias is not None:
        return False
    if trunk.config.hidden_act != "silu" or hasattr(trunk, "_hf_hook") or hasattr(head, "_hf_hook"):
        return False
    linear = [module for module in trunk.modules() if isinstance(module, nn.Linear)]
    plain = all(type(module) is nn.Linear and module.bias is None for module in linear)
    return plain and all(
        type(weight) is nn.Parameter and weight.dtype == torch.float32 and weight.device.type == "cpu"
        for weight in (*trunk.parameters(), head.weight)
    )


def _is_one_token(kwargs: Mapping[str, Any]) -> bool:
    """Return whether a call of the trunk is one token of one prompt with a cache, and nothing else."""
    embedded, cache, mask = (kwargs.get(name) for name in ("inputs_embeds", CACHE_NAME, "attention_mask"))
    if embedded is None or embedded.shape[:2] != (1, 1) or torch.is_grad_enabled():
        return False
    if type(cache) is not DynamicCache or not all(type(layer) is DynamicLayer for layer in cache.layers):
        return False
    if any(value for name, value in kwargs.items() if name not in _HANDLED):
        return False  # hidden states, attentions or another mask: left to transformers
    return cache.get_seq_length() > 0 and (mask is None or (mask.dim() == 2 and bool(mask.all())))
