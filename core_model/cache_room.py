"""Room behind the keys and values of a cache, so that a token is written there instead of copying all before it.

Shapes: k key heads of c channels; l tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

__all__ = ["Room", "rooms"]

MIN_ROOM = 64
"""Least number of tokens for which room is made."""


class Room:
    """Keys and values of a layer, with room behind them for more.

    Args:
        layer: The layer of a cache, with keys and values (1, k, l, c).
    """

    def __init__(self, layer: Any) -> None:
        length = layer.keys.shape[-2]
        self.capacity: int = length + max(MIN_ROOM, length // 4)
        self.keys, self.values = (self._larger(tensor) for tensor in (layer.keys, layer.values))
        self.address = (self.keys.data_ptr(), self.values.data_ptr(), self.capacity)
        self.show(layer, length)

    def fits(self, layer: Any) -> bool:
        """Return whether a layer still uses this room, and one token more fits."""
        owned = layer.keys.data_ptr() == self.address[0] and layer.values.data_ptr() == self.address[1]
        return owned and bool(layer.keys.shape[-2] < self.capacity)

    def show(self, layer: Any, length: int) -> None:
        """Let a layer have the first tokens as its keys and values."""
        layer.keys, layer.values = self.keys.narrow(2, 0, length), self.values.narrow(2, 0, length)

    def _larger(self, tensor: Tensor) -> Tensor:
        found = torch.zeros(*tensor.shape[:2], self.capacity, tensor.shape[-1])
        found[:, :, : tensor.shape[2]] = tensor
        return found


def rooms(cache: DynamicCache) -> list[Room]:
    """Return the room of each layer of a cache, with space for a token more."""
    found = []
    layers: Any = cache.layers
    for layer in layers:
        room = layer.__dict__.get("mgem_room")
        if not isinstance(room, Room) or not room.fits(layer):
            room = layer.mgem_room = Room(layer)
        found.append(room)
    return found
