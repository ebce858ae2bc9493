"""The fact table of nano's generator: one hidden unit of its last MLP for each fact that a caption may ask for.

A fact is a background, or a thing alone, on the left or on the right. The autoencoder makes the latents of a scene the
sum of the latents of its facts. So a transformer that reads captions can draw them once each unit's output weights are
the latents of its fact. They are written directly, because gradient descent would take hours: each thing appears in one
of hundreds of pictures. A second unit for each fact subtracts what the first outputs above a threshold, so that every
fact is drawn with the same strength, whatever its score.
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
"""Width of an attention head; the transformer's width is a multiple."""

_LOUDER = 50.0
"""Ratio of the facts' latents to the other inputs of the last layer, if float16 has the range for it."""

_MOST = 25_000.0
"""Largest input of the last layer; the maximum of float16 is 65,504."""

_ENOUGH = 3.0
"""Score from which a fact is drawn with full strength."""

_BALLAST = 10.0
"""Ratio of the constant norm-stabilising channel to the signal."""

_BALLAST_CHANNELS = 8
"""Channels of the norm-stabilising vector."""


@contextmanager
def table_scores(transformer: Any) -> Iterator[list[tuple[Tensor, ...]]]:
    """Record the scores of the facts in each call of the transformer inside a `with` block.

    The table is the first hidden units of the last block's MLP, one for each fact.

    Yields:
        A list to which each call adds the scores of each kind of facts, (B · tokens, number) each; see `fact_loss`.

    Raises:
        InputError: If the transformer is too narrow for two units a fact.
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
    """Make the untrained transformer ignore the noisy picture and read only the caption."""
    transformer.pos_embed.proj.weight.zero_()


class Heard:
    """Recorded activations of a transformer with one token.

    Attributes:
        others: (B, w) for each call, the input of the last layer without the table's part.
        times: (B, w) for each call, the embedded time step.
    """

    def __init__(self) -> None:
        self.others: list[Tensor] = []
        self.times: list[Tensor] = []


@contextmanager
def heard_facts(transformer: Any) -> Iterator[Heard]:
    """Record the activations of a transformer inside a `with` block."""
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
    """Write the latents of each fact into the table, and the last layer that decodes them.

    The latents of facts are stored as principal components; a few hundred explain nearly all. The last layer norm
    normalises the length of its input, which would distort sums. A constant vector, much longer than the signal, makes
    the length nearly the same for all pictures. At first nothing depends on the time step.

    Args:
        transformer: A transformer that reads captions, with one token a picture; it is changed.
        nothing: (c, h, h) scaled latents of the empty layer.
        looks: (F, c, h, h) scaled latents that each fact adds.
        heard: Recorded activations for N captions.
        facts: (N, F) 1 for each fact that a caption asks for.
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
    """Replace the time embedding by its mean, and cancel its effect on the last block and the last norm."""
    embedder, block = transformer.adaln_single.emb.timestep_embedder, transformer.transformer_blocks[-1]
    embedder.linear_2.weight.zero_()
    embedder.linear_2.bias.copy_(time)
    gate = transformer.adaln_single.linear(nn.functional.silu(time)).unflatten(0, (6, -1))[5]
    block.scale_shift_table[5] = 1 - gate
    transformer.scale_shift_table.copy_(-time)


def _directions(width: int, number: int) -> tuple[Tensor, Tensor]:
    """Return (w, n) directions for the signal and (w,) one for the constant, all orthonormal.

    All are orthogonal to the vector of ones, too, which a layer norm removes.
    """
    ballast = torch.zeros(width, dtype=torch.float64)
    ballast[:_BALLAST_CHANNELS] = _BALLAST_CHANNELS**-0.5
    ballast[1:_BALLAST_CHANNELS:2] *= -1
    fixed = torch.stack([torch.ones(width, dtype=torch.float64), ballast], 1)
    random = torch.randn(width, number, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    directions, _ = torch.linalg.qr(torch.cat([fixed, random], 1))
    return directions[:, 2:], ballast


def _written(latents: Tensor) -> Tensor:
    """Return latents (N, c, h, h) in the layout of the last layer's output, (N, h · h · c)."""
    return latents.permute(0, 2, 3, 1).flatten(1)
