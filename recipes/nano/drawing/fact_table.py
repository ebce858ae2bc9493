"""The table in the small generator: hidden units of its last MLP, one for each fact that a caption may ask for.

A fact is a background, or a thing that stands alone, on the left or on the right. The latents of a scene are the sum of
what its facts look like, as the autoencoder was taught; so a transformer that reads captions draws them as soon as each
unit's row of the MLP's last layer says what its fact looks like. No gradient is needed for that: gradient descent takes
hours for it, as a thing is drawn once in hundreds of pictures. A second unit for each fact takes away what the first
says above a threshold, so that everything is drawn alike strongly, however loud it was said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.drawing.caption_encoder import fact_sizes

__all__ = ["HEAD_WIDTH", "Heard", "begin_to_draw", "begin_to_read", "heard_facts", "table_scores"]

HEAD_WIDTH = 32
"""Width of a head of attention, of which the transformer's is a multiple."""

_LOUDER = 50.0
"""Times that what facts look like is larger than all else that the last layer is told, if float16 has room for it."""

_MOST = 25_000.0
"""Largest number that is told it; float16 ends at 65,504."""

_ENOUGH = 3.0
"""Score from which a fact is drawn whole."""

_BALLAST = 10.0
"""Times that what brings all that is said to one length is larger than what facts look like."""

_BALLAST_CHANNELS = 8
"""Channels that it is said in."""


@contextmanager
def table_scores(transformer: Any) -> Iterator[list[tuple[Tensor, ...]]]:
    """Give what the table says in each call of the transformer while the block runs.

    The table is the first hidden units of the last block's MLP, as many of them as there are facts.

    Yields:
        A list, to which each call adds the scores of each kind of facts, (B · tokens, number) each; see `fact_loss`.

    Raises:
        InputError: If the transformer is too narrow for two units each.
    """
    sizes = fact_sizes()
    found: list[tuple[Tensor, ...]] = []
    units = _table(transformer).net[0].proj
    if units.out_features < 2 * sum(sizes):
        raise InputError(
            f"The transformer's MLP has {units.out_features} hidden units, and {sum(sizes)} facts take two each. Take "
            f"a width of {HEAD_WIDTH * math.ceil(sum(sizes) / 2 / HEAD_WIDTH)} or more."
        )
    hook = units.register_forward_hook(
        lambda _module, _inputs, output: found.append(output.flatten(0, 1)[:, : sum(sizes)].split(sizes, 1))
    )
    try:
        yield found
    finally:
        hook.remove()


@torch.no_grad()
def begin_to_read(transformer: Any) -> None:
    """Let the untrained transformer read the caption alone: almost nothing of a picture is seen in noise."""
    transformer.pos_embed.proj.weight.zero_()


class Heard:
    """What a transformer of one token says about captions, as it is called.

    Attributes:
        others: (B, w) for each call, what the last layer is told by all but the table.
        times: (B, w) for each call, the embedded time.
    """

    def __init__(self) -> None:
        self.others: list[Tensor] = []
        self.times: list[Tensor] = []


@contextmanager
def heard_facts(transformer: Any) -> Iterator[Heard]:
    """Give what a transformer says in its calls while the block runs."""
    heard = Heard()
    said: list[Tensor] = []
    hooks = (
        transformer.adaln_single.register_forward_hook(lambda _module, _inputs, output: heard.times.append(output[1])),
        _table(transformer).register_forward_hook(lambda _module, _inputs, output: said.append(output.flatten(0, 1))),
        transformer.norm_out.register_forward_pre_hook(
            lambda _module, inputs: heard.others.append(inputs[0].flatten(0, 1) - said.pop())
        ),
    )
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def begin_to_draw(transformer: Any, nothing: Tensor, looks: Tensor, heard: Heard, facts: Tensor) -> None:
    """Let each fact say what it looks like, and the last layer write it.

    What facts look like is written in its principal components, of which a few hundred hold nearly all. The last norm
    brings everything to one length; a constant that is much larger than what facts look like makes that length nearly
    the same for all pictures, and what is said is written as it is, a sum. Nothing depends on the time at first.

    Args:
        transformer: One that reads already, of one token a picture; it is changed.
        nothing: (c, h, h) scaled latents of a picture without any fact.
        looks: (F, c, h, h) what each fact adds to them.
        heard: What the transformer says about captions.
        facts: (N, F) 1 where one of N captions asks for a fact.
    """
    _forget_time(transformer, torch.cat(heard.times).mean(0))
    num = len(looks)
    units, table, last = _table(transformer).net[0].proj, _table(transformer).net[2], transformer.proj_out
    units.weight[num : 2 * num] = units.weight[:num]
    units.bias[num : 2 * num] = units.bias[:num] - _ENOUGH
    written = _written(looks).double()
    components = torch.linalg.svd(written, full_matrices=False)[2][: last.in_features - 2]  # (r, D)
    basis, ballast = _directions(last.in_features, len(components))
    rows = written @ components.T @ basis.T  # (F, w)
    others, pictures = torch.cat(heard.others).double(), (facts.double() @ rows).norm(dim=1)
    largest = _BALLAST * pictures.max() * ballast.max()
    louder = (_LOUDER * others.std(0).norm() / rows.norm(dim=1).mean()).clamp(max=_MOST / largest)
    length = louder * (_BALLAST * pictures.max()).hypot(pictures.mean()) / last.in_features**0.5
    table.weight.zero_()
    table.weight[:, :num] = (louder / _ENOUGH * rows).T.to(table.weight)
    table.weight[:, num : 2 * num] = -table.weight[:, :num]
    table.bias.copy_(_BALLAST * louder * pictures.max() * ballast - others.mean(0))
    last.weight.copy_(components.T @ basis.T * length / louder)
    last.bias.copy_(_written(nothing[None])[0])


def _table(transformer: Any) -> Any:
    return transformer.transformer_blocks[-1].ff


def _forget_time(transformer: Any, time: Tensor) -> None:
    """Let every time be like the mean of all, and what the last block and the last norm make of it change nothing."""
    embedder, block = transformer.adaln_single.emb.timestep_embedder, transformer.transformer_blocks[-1]
    embedder.linear_2.weight.zero_()
    embedder.linear_2.bias.copy_(time)
    gate = transformer.adaln_single.linear(nn.functional.silu(time)).unflatten(0, (6, -1))[5]
    block.scale_shift_table[5] = 1 - gate
    transformer.scale_shift_table.copy_(-time)


def _directions(width: int, number: int) -> tuple[Tensor, Tensor]:
    """Return (w, n) directions to say things in and (w,) one for ballast, all of length 1 and at right angles.

    All are at right angles to the vector of ones too, which a norm takes away.
    """
    ballast = torch.zeros(width, dtype=torch.float64)
    ballast[:_BALLAST_CHANNELS] = _BALLAST_CHANNELS**-0.5
    ballast[1:_BALLAST_CHANNELS:2] *= -1
    fixed = torch.stack([torch.ones(width, dtype=torch.float64), ballast], 1)
    random = torch.randn(width, number, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    directions, _ = torch.linalg.qr(torch.cat([fixed, random], 1))
    return directions[:, 2:], ballast


def _written(latents: Tensor) -> Tensor:
    """Return latents (N, c, h, h) as the last layer writes them, in one patch, (N, h · h · c)."""
    return latents.permute(0, 2, 3, 1).flatten(1)
