"""The room behind a cache is made once for many tokens, and never shows what is not there."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache

from mgem_agent.core_model.cache_room import MIN_ROOM, rooms


def make_cache(length: int) -> Any:
    cache = DynamicCache()
    for layer in range(2):
        cache.update(torch.randn(1, 3, length, 4), torch.randn(1, 3, length, 4), layer)
    return cache


def test_room_is_made_once() -> None:
    cache = make_cache(5)
    before = cache.layers[0].keys.clone()
    first = rooms(cache)
    assert torch.equal(cache.layers[0].keys, before)
    assert [room.capacity for room in first] == [5 + MIN_ROOM] * 2
    for room, layer in zip(first, cache.layers, strict=True):
        room.show(layer, 6)
    assert cache.get_seq_length() == 6
    assert rooms(cache) == first


def test_a_full_or_changed_cache_gets_other_room() -> None:
    cache = make_cache(5)
    first = rooms(cache)
    for room, layer in zip(first, cache.layers, strict=True):
        room.show(layer, room.capacity)
    second = rooms(cache)
    assert all(one is not other for one, other in zip(first, second, strict=True))
    cache.update(torch.randn(1, 3, 1, 4), torch.randn(1, 3, 1, 4), 0)
    third = rooms(cache)
    assert third[0] is not second[0] and third[1] is second[1]
