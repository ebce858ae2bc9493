"""The table in the small generator: hidden units of its last MLP, one for each fact that a caption may ask for.

A fact is a background, or a thing that stands alone, on the left or on the right. The latents of a scene are the sum of
what its facts look like, as the autoencoder was taught; so a transformer that reads captions draws them as soon as each
unit's row of the MLP's last layer says what its fact looks like. No gradient is needed for that: gradient descent takes
hours for it, as a thing is drawn once in hundreds of pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mgem_agent.errors import InputError
from mgem_agent.recipes.train.caption_encoder import fact_sizes

__all__ = ["Heard", "begin_to_draw", "begin_to_read", "heard_facts", "table_scores"]

_HEAD = 32
"""What the width is a multiple of."""

_LOUDER = 100.0
"""Times that what facts look like is larger than all else that the last layer is told."""

_BALLAST = 10.0
"""Times that what brings all that is said to one length is larger than what facts look like."""


@contextmanager
def table_scores(transformer: Any) -> Iterator[list[tuple[Tensor, ...]]]:
    """Give what the table says in each call of the transformer while the block runs.

    The table is the hidden units of the last block's MLP, as many of them as there are facts; the others are free.

    Yields:
        A list, to which each call adds the scores of each kind of facts, (B · tokens, number) each; see `fact_loss`.

    Raises:
        InputError: If the transformer is too narrow for a unit each.
    """
    sizes = fact_sizes()
    found: list[tuple[Tensor, ...]] = []
    units = _table(transformer).net[0].proj
    if units.out_features < sum(sizes):
        raise InputError(
            f"The transformer's MLP has {units.out_features} hidden units, and {sum(sizes)} facts take one each. Take "
            f"a width of {_HEAD * math.ceil(sum(sizes) / 4 / _HEAD)} or more."
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
        units: (B, U) for each call, what the table's hidden units say.
        said: (B, w) for each call, what the last layer is told.
        times: (B, w) for each call, the embedded time.
    """

    def __init__(self) -> None:
        self.units: list[Tensor] = []
        self.said: list[Tensor] = []
        self.times: list[Tensor] = []


@contextmanager
def heard_facts(transformer: Any) -> Iterator[Heard]:
    """Give all that a transformer says in its calls while the block runs."""
    heard = Heard()
    hooks = (
        transformer.adaln_single.register_forward_hook(lambda _module, _inputs, output: heard.times.append(output[1])),
        _table(transformer)
        .net[2]
        .register_forward_pre_hook(lambda _module, inputs: heard.units.append(inputs[0].flatten(0, 1))),
        transformer.norm_out.register_forward_pre_hook(
            lambda _module, inputs: heard.said.append(inputs[0].flatten(0, 1))
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
        heard: What the transformer says about N captions.
        facts: (N, F) 1 where a caption asks for a fact; a fact that none asks for is taken to be said as strongly as
            the others are.
    """
    _forget_time(transformer, torch.cat(heard.times).mean(0))
    table, last = _table(transformer).net[2], transformer.proj_out
    units, said = torch.cat(heard.units)[:, : len(looks)].double(), torch.cat(heard.said).double()
    said = said - units @ table.weight[:, : len(looks)].double().T - table.bias.double()  # what else it is told
    facts = facts.double()
    strengths = (units * facts).sum(0) / facts.sum(0)
    strengths = torch.where(facts.sum(0) > 0, strengths, strengths.nanmean())
    basis, ballast = _directions(last.in_features, min(len(looks), last.in_features - 2))
    written = _patches(transformer, looks).double()
    _, _, components = torch.linalg.svd(written, full_matrices=False)  # (r, D)
    components = components[: basis.shape[1]]
    rows = written @ components.T @ basis.T  # (F, w)
    louder = _LOUDER * said.std(0).norm() / rows.norm(dim=1).mean()
    largest = louder * (facts @ rows).norm(dim=1).max()
    length = (_BALLAST * largest).hypot(louder * (facts @ rows).norm(dim=1).mean()) / last.in_features**0.5
    table.weight.zero_()
    table.weight[:, : len(looks)] = (louder * rows / strengths[:, None]).T.to(table.weight)
    table.bias.copy_(_BALLAST * largest * ballast - said.mean(0))
    last.weight.copy_(components.T @ basis.T * length / louder)
    last.bias.copy_(_patches(transformer, nothing[None])[0])


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
    ballast[0], ballast[1] = 0.5**0.5, -(0.5**0.5)
    fixed = torch.stack([torch.ones(width, dtype=torch.float64), ballast], 1)
    random = torch.randn(width, number, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    directions, _ = torch.linalg.qr(torch.cat([fixed, random], 1))
    return directions[:, 2:], ballast


def _patches(transformer: Any, latents: Tensor) -> Tensor:
    """Return latents (N, c, h, h) as the transformer's last layer writes them, (N · tokens, p · p · c)."""
    size = transformer.config.patch_size
    return latents.unflatten(3, (-1, size)).unflatten(2, (-1, size)).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(0, 2)
