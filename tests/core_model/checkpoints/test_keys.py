"""The authors' names for weights and ours."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch

from mgem_agent.core_model.checkpoints.keys import (
    is_harmless_leftover,
    key_mapping,
    split_experts,
    to_official_key,
    to_our_key,
)


def test_renaming_goes_both_ways_and_the_patterns_say_the_same(tiny_tensors: Callable[..., dict[str, Any]]) -> None:
    patterns = {re.compile(pattern): ours for pattern, ours in key_mapping().items()}
    for family in ("llama", "mixtral"):
        keys = tiny_tensors(family).keys()
        assert len({to_our_key(key) for key in keys}) == len(keys)
        for key in keys:
            ours = to_our_key(key)
            assert to_official_key(ours) == key
            assert to_our_key(ours) == ours, "a name of ours must never be taken for one of theirs"
            matching = [pattern for pattern in patterns if pattern.search(key)]
            assert len(matching) == (0 if key == "lm_head.weight" else 1)
            for pattern in matching:
                assert pattern.sub(patterns[pattern], key) == ours
            assert not any(pattern.search(ours) for pattern in patterns)


def test_any_other_name_is_left_alone() -> None:
    for key in ("lm_head.weight", "model.image_newline", "vision_model.embeddings.class_embedding", "model.layersnorm"):
        assert to_our_key(key) == to_official_key(key) == key


def test_what_may_be_left_over() -> None:
    assert is_harmless_leftover("model.layers.31.self_attn.rotary_emb.inv_freq")
    assert is_harmless_leftover("model.vision_tower.vision_tower.vision_model.embeddings.position_ids")
    assert not is_harmless_leftover("model.layers.31.self_attn.q_proj.weight")
    assert not is_harmless_leftover("rotary_emb.inv_freq_scale")


def test_experts_are_split_as_published_files_have_them() -> None:
    block = "model.language_model.layers.3"
    split = split_experts(
        {
            f"{block}.mlp.experts.gate_up_proj": (2, 12, 4),
            f"{block}.mlp.experts.down_proj": (2, 4, 6),
            f"{block}.mlp.gate.weight": (2, 4),
            f"{block}.self_attn.q_proj.weight": (4, 4),
        }
    )
    expected: dict[str, tuple[int, ...]] = {f"{block}.self_attn.q_proj.weight": (4, 4)}
    for expert in range(2):
        name = f"{block}.block_sparse_moe.experts.{expert}"
        expected |= {f"{name}.w1.weight": (6, 4), f"{name}.w3.weight": (6, 4), f"{name}.w2.weight": (4, 6)}
    expected[f"{block}.block_sparse_moe.gate.weight"] = (2, 4)
    assert split == expected
    assert sum(torch.Size(shape).numel() for shape in split.values()) == 2 * 12 * 4 + 2 * 4 * 6 + 2 * 4 + 16
