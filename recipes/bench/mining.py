"""Patch info mining against the textbook form of Eq. 1: `mgem bench mining --hd --json`.

The textbook form up-samples and concatenates the stage maps and projects every pixel to a key and a value, as the
authors' code does. Ours gives the same result without projecting pixels. Both get the same random stage maps, in the
sizes of the released models and in the memory layout of the ConvNeXt's output. In the HD models, the crops and the
global image are mined one after the other; the textbook form also builds the concatenated map only once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mgem_agent.core_model import MiniGeminiConfig, PatchInfoMining
from mgem_agent.recipes.bench.comparison import Comparison
from mgem_agent.recipes.bench.measure import DTypeName, compare, find_device, require_positive
from mgem_agent.recipes.bench.sizes import bench_config, describe_sizes
from mgem_agent.testing.textbook_mining import TextbookPatchInfoMining, concatenate_stage_maps

__all__ = ["bench_mining"]


def bench_mining(
    *,
    hd: bool = False,
    small: bool = False,
    batch: int = 1,
    dtype: DTypeName = "float32",
    device: str = "cpu",
    backward: bool = False,
    repeats: int = 3,
) -> Comparison:
    """Measure mining at the sizes of the released models.

    Args:
        hd: The HD models: 672/1536 px instead of 336/768 px.
        small: Small sizes, for a quick test; the speed means little.
        batch: Images in a batch.
        dtype: Data type of weights, tokens and maps.
        device: `cpu`, `cuda` or `cuda:1`.
        backward: Compute the gradients of the parameters and the query tokens too.
        repeats: Timed runs of each.

    Raises:
        InputError: If the device is missing, or a number is less than one.
    """
    require_positive(batch=batch, repeats=repeats)
    place, kind = find_device(device), getattr(torch, dtype)
    config = bench_config(hd=hd, small=small)
    torch.manual_seed(0)
    dims = config.vision_config.hidden_size, config.high_res_vision_config.candidate_dim
    ours, textbook = PatchInfoMining(*dims), TextbookPatchInfoMining(*dims)
    textbook.load_state_dict(ours.state_dict())
    ours.to(place, kind)
    textbook.to(place, kind)
    tokens, candidates = _inputs(config, batch, place, kind)
    grid = config.image_grid

    def mine_ours() -> list[Tensor]:
        return [ours(tokens[0], candidates), *(ours(whole, candidates, scale=1 / grid) for whole in tokens[1:])]

    def mine_textbook() -> list[Tensor]:
        maps = candidates if grid == 1 else [concatenate_stage_maps(candidates)]
        return [textbook(tokens[0], maps), *(textbook(whole, maps, scale=1 / grid) for whole in tokens[1:])]

    weights = [torch.randn_like(part) for part in tokens]

    def finish(module: nn.Module, mined: list[Tensor]) -> Mapping[str, Sequence[Tensor]]:
        if not backward:
            return {"output": mined}
        leaves = [*tokens, *module.parameters()]
        torch.autograd.backward(mined, weights)
        gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
        for leaf in leaves:
            leaf.grad = None
        return {"output": mined, "gradients": gradients}

    return compare(
        lambda: finish(ours, mine_ours()),
        lambda: finish(textbook, mine_textbook()),
        name="mining",
        setting=f"{describe_sizes(config)}, batch {batch}, {dtype}" + (", with gradients" if backward else ""),
        labels=("PatchInfoMining", "TextbookPatchInfoMining"),
        device=place,
        repeats=repeats,
        note="Weights, tokens and maps are random.",
        with_gradients=backward,
    )


def _inputs(
    config: MiniGeminiConfig, batch: int, device: torch.device, dtype: torch.dtype
) -> tuple[list[Tensor], list[Tensor]]:
    """Return random tokens (of the crops, and of the global image if there is one) and random stage maps."""
    side, finest = config.geometry.tokens_per_side, cast(int, config.high_res_image_size) // 4
    counts = [(side * config.image_grid) ** 2] + [side**2] * config.image_global
    tokens = [
        torch.randn(batch, count, config.vision_config.hidden_size, device=device, dtype=dtype, requires_grad=True)
        for count in counts
    ]
    candidates = [
        torch.randn(batch, channels, finest >> stage, finest >> stage, device=device, dtype=dtype).contiguous(
            memory_format=torch.channels_last
        )
        for stage, channels in enumerate(config.high_res_vision_config.hidden_sizes)
    ]
    return tokens, candidates
