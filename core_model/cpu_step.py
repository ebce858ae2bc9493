"""The forward pass of a few consecutive tokens through a LLaMA on a CPU, with few calls.

In a small model, the calls between the products are a large part of the time. So projections of one input are one
product, a rotation is one product with a matrix of the position, and keys and values are written into room that is kept
behind them instead of copying all of them for each token.

Shapes: d hidden size; h heads, k of them with keys of their own, of c channels; r new tokens; l tokens before them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache, LlamaModel

from mgem_agent.core_model.cpu_products import Product

__all__ = ["Layer", "Room", "Step", "rooms"]

MIN_ROOM = 64
"""Least number of tokens for which room is made."""


class Room:
    """Keys and values of a layer, with room behind them for more.

    Args:
        layer: The layer of a cache, with keys and values (1, k, l, c).
        extra: Number of tokens to make room for.
    """

    def __init__(self, layer: Any, extra: int) -> None:
        length = layer.keys.shape[-2]
        capacity = length + max(extra, MIN_ROOM, length // 4)
        self.keys, self.values = (self._larger(tensor, capacity) for tensor in (layer.keys, layer.values))
        self.show(layer, length)

    def fits(self, layer: Any, extra: int) -> bool:
        """Return whether a layer still uses this room, and some tokens more fit."""
        owned = layer.keys.data_ptr() == self.keys.data_ptr() and layer.values.data_ptr() == self.values.data_ptr()
        return owned and layer.keys.shape[-2] + extra <= self.keys.shape[-2]

    def show(self, layer: Any, length: int) -> None:
        """Let a layer have the first tokens as its keys and values."""
        layer.keys, layer.values = self.keys.narrow(2, 0, length), self.values.narrow(2, 0, length)

    @staticmethod
    def _larger(tensor: Tensor, capacity: int) -> Tensor:
        found = tensor.new_zeros(*tensor.shape[:2], capacity, tensor.shape[-1])
        found[:, :, : tensor.shape[2]] = tensor
        return found


def rooms(cache: DynamicCache, extra: int) -> list[Room]:
    """Return the room of each layer of a cache, with space for some tokens more."""
    found = []
    layers: Any = cache.layers
    for layer in layers:
        room = layer.__dict__.get("mgem_room")
        if not isinstance(room, Room) or not room.fits(layer, extra):
            room = Room(layer, extra)
            layer.mgem_room = room
        found.append(room)
    return found


class Layer:
    """The weights of a layer.

    Args:
        layer: A layer of the trunk.
        make: Makes a product from a matrix.
        is_joined: Whether projections of one input become one product.
    """

    def __init__(self, layer: Any, make: Callable[[Tensor], Product], *, is_joined: bool = True) -> None:
        def joined(*linears: Any) -> Product:
            weights = [linear.weight.detach() for linear in linears]
            if is_joined or len(weights) == 1:
                return make(torch.cat(weights) if len(weights) > 1 else weights[0])
            products = [make(weight) for weight in weights]
            return lambda hidden: torch.cat([product(hidden) for product in products], dim=-1)

        attention, inner = layer.self_attn, layer.mlp
        self.input_norm: Tensor = layer.input_layernorm.weight.detach()
        self.inner_norm: Tensor = layer.post_attention_layernorm.weight.detach()
        self.attended = joined(attention.q_proj, attention.k_proj, attention.v_proj)
        self.leave = joined(attention.o_proj)
        self.widened = joined(inner.gate_proj, inner.up_proj)
        self.narrowed = joined(inner.down_proj)


class Step:
    """The forward pass of a few tokens.

    Args:
        trunk: A LLaMA without a head.
    """

    def __init__(self, trunk: LlamaModel) -> None:
        config: Any = trunk.config
        self._num_keys: int = config.num_key_value_heads
        self._num_heads: int = config.num_attention_heads
        self._channels: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._eps: float = config.rms_norm_eps
        self._angles = trunk.rotary_emb
        self._norm = trunk.norm.weight.detach()
        self._nothing = torch.zeros_like(self._norm)
        half = self._channels // 2
        self._swapped = torch.cat([torch.arange(half, 2 * half), torch.arange(half)])
        self._signs = torch.cat([-torch.ones(half), torch.ones(half)])

    def rotations(self, start: Tensor | int, count: int) -> Tensor:
        """Return the rotation (r, c, c) of each of some positions."""
        positions = torch.arange(count)[None] + start
        cosines, sines = self._angles(self._norm, positions)
        turned = torch.diag_embed(sines[0] * self._signs)[:, self._swapped]
        return torch.diag_embed(cosines[0]) + turned

    def __call__(
        self, embedded: Tensor, rotations: Tensor, layers: Sequence[Layer], places: Sequence[Room], past: int
    ) -> Tensor:
        """Return the output (r, d) for embeddings (r, d); write keys and values behind the first `past` tokens."""
        hidden, mask = embedded, self._mask(len(embedded), past)
        for layer, room in zip(layers, places, strict=True):
            seen = layer.attended(self._normed(hidden, layer.input_norm))
            hidden = hidden + layer.leave(self._attend(seen.float(), rotations, room, past, mask))
            gate, up = layer.widened(self._normed(hidden, layer.inner_norm)).chunk(2, dim=-1)
            hidden = hidden + layer.narrowed(F.silu(gate) * up)
        return self._normed(hidden, self._norm)

    def _normed(self, hidden: Tensor, weight: Tensor) -> Tensor:
        if len(hidden) > 1:
            return F.rms_norm(hidden, weight.shape, weight, self._eps)
        row = hidden[0]
        scale = (torch.dot(row, row).item() / len(row) + self._eps) ** -0.5
        return torch.addcmul(self._nothing, row, weight, value=scale)[None]

    def _attend(self, seen: Tensor, rotations: Tensor, room: Room, past: int, mask: Tensor | None) -> Tensor:
        """Return (r, h·c) from the queries, keys and values (r, (h + 2k)·c) of the new tokens."""
        count, split = len(seen), (self._num_heads + self._num_keys) * self._channels
        turned = torch.bmm(seen[:, :split].view(count, -1, self._channels), rotations)  # (r, h + k, c)
        room.keys[0, :, past : past + count] = turned[:, self._num_heads :].transpose(0, 1)
        room.values[0, :, past : past + count] = seen[:, split:].view(count, -1, self._channels).transpose(0, 1)
        queries = turned[:, : self._num_heads].view(count, self._num_keys, -1, self._channels)
        queries = queries.permute(1, 2, 0, 3).reshape(1, self._num_keys, -1, self._channels)  # (1, k, h/k·r, c)
        length = past + count
        found = F.scaled_dot_product_attention(
            queries, room.keys.narrow(2, 0, length), room.values.narrow(2, 0, length), attn_mask=mask
        )
        return found.view(self._num_keys, -1, count, self._channels).permute(2, 0, 1, 3).reshape(count, -1)

    def _mask(self, count: int, past: int) -> Tensor | None:
        """Return what each query may see, (h/k·r, l + r); None for a single token, which sees all."""
        if count == 1:
            return None
        seen = torch.ones(count, past + count, dtype=torch.bool).tril(past)
        return seen.repeat(self._num_heads // self._num_keys, 1)
