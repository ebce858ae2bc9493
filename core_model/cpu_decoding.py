"""Fast single-token decoding on a CPU for language models of the LLaMA family.

The cost of a token there is reading every weight once and, in a small model, the calls between the products. So:

- **Fewer bytes.** The float32 weights still process the prompt. For single tokens there is a second copy of the
  matrices: in 4 bits per weight if they already lie on such a grid (as in a GGUF file of type Q4_1), otherwise in 8
  bits. torch's own kernels multiply both, in bfloat16 with float32 sums.
- **Fewer calls.** Projections of one input are one product, and attention is written out for one query.

`exact` uses the float32 weights instead, which gives the same tokens as transformers except for ties.

`generate`, streaming and the key-value cache are those of transformers. Only the forward pass of the trunk and the head
is replaced, and only for one token of one prompt.

Shapes: d hidden size; n rows of a matrix; h heads, k of them with keys of their own, of c channels; l tokens so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, LlamaModel
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutputWithPast

from mgem_agent.core_model.cache_name import CACHE_NAME

if TYPE_CHECKING:
    from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration

__all__ = ["CpuDecoding", "enable_cpu_decoding"]

_GROUP = 32
"""Weights that share a step and an offset on a grid of 4 bits."""

_GRID_TOLERANCE = 0.01
"""Tolerance, in steps, for a weight to be on its grid; float16 steps need some."""

_KERNELS: Any = torch  # its products with packed weights have no public names yet

_HANDLED = ("attention_mask", "inputs_embeds", CACHE_NAME, "position_ids", "use_cache", "return_dict")

Product = Callable[[Tensor], Tensor]
"""From (1, d) to (1, n)."""


def enable_cpu_decoding(model: MiniGeminiForConditionalGeneration, *, exact: bool = False) -> CpuDecoding | None:
    """Turn on fast decoding for a model.

    Args:
        model: The model, loaded in float32 on the CPU. Prompt processing and saving do not change.
        exact: Whether to multiply by the float32 weights themselves.

    Returns:
        The object that can turn it off again; None if the model is not supported and was left unchanged.
    """
    trunk: Any = model.model.language_model
    head: Any = model.get_output_embeddings()
    if not _is_fitting(trunk, head):
        return None
    return CpuDecoding(trunk, head, exact=exact or not _has_kernels())


class CpuDecoding:
    """Fast decoding of one model, which can be turned on and off.

    Args:
        trunk: A LLaMA without a head.
        head: Its head.
        exact: Whether to multiply by the float32 weights.
    """

    def __init__(self, trunk: LlamaModel, head: nn.Linear, *, exact: bool) -> None:
        self.exact = exact
        self._trunk, self._head = trunk, head
        self._step = _Step(trunk, exact)
        self._score: Product = _product([head.weight], exact)
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
        if args or not _is_one_token(kwargs):
            return type(self._trunk).forward(self._trunk, *args, **kwargs)
        cache = kwargs[CACHE_NAME]
        hidden = self._step(kwargs["inputs_embeds"], kwargs.get("position_ids"), cache)
        return BaseModelOutputWithPast(last_hidden_state=hidden, **{CACHE_NAME: cache})

    def _through_head(self, input: Tensor) -> Tensor:
        if torch.is_grad_enabled() or input.shape[:-1].numel() != 1:
            return F.linear(input, self._head.weight)
        return self._score(input.reshape(1, -1)).view(*input.shape[:-1], -1)


class _Step:
    """The forward pass of one token through the trunk."""

    def __init__(self, trunk: LlamaModel, exact: bool) -> None:
        config: Any = trunk.config
        self.num_keys = config.num_key_value_heads
        self.num_heads = config.num_attention_heads
        self.channels: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.eps = config.rms_norm_eps
        self.angles = trunk.rotary_emb
        self.norm = trunk.norm.weight.detach()
        self.layers = [_Layer(layer, exact) for layer in trunk.layers]
        half = self.channels // 2
        self.swapped = torch.cat([torch.arange(half, 2 * half), torch.arange(half)])
        self.signs = torch.cat([-torch.ones(half), torch.ones(half)])

    def __call__(self, embedded: Tensor, position_ids: Tensor | None, cache: DynamicCache) -> Tensor:
        """Return (1, 1, d) for the embedding of a token (1, 1, d), and add its keys and values to the cache."""
        if position_ids is None:
            position_ids = torch.tensor([[cache.get_seq_length()]])
        cosines, sines = self.angles(embedded, position_ids[:, -1:])
        cosines, sines = cosines[0], sines[0] * self.signs  # (1, c)
        hidden = embedded[0]  # (1, d)
        for index, layer in enumerate(self.layers):
            seen = layer.attended(self._normed(hidden, layer.input_norm))
            hidden = hidden + layer.leave(self._attend(seen, cosines, sines, cache, index))
            gate, up = layer.widened(self._normed(hidden, layer.inner_norm)).chunk(2, dim=-1)
            hidden = hidden + layer.narrowed(F.silu(gate) * up)
        return self._normed(hidden, self.norm)[None]

    def _normed(self, hidden: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(hidden, weight.shape, weight, self.eps)

    def _attend(self, seen: Tensor, cosines: Tensor, sines: Tensor, cache: DynamicCache, index: int) -> Tensor:
        """Return (1, h·c) from the queries, keys and values of a token (1, (h + 2k)·c)."""
        split = (self.num_heads + self.num_keys) * self.channels
        turned = seen[:, :split].view(-1, self.channels)  # (h + k, c)
        turned = torch.addcmul(turned * cosines, turned[:, self.swapped], sines)
        own = (1, self.num_keys, 1, self.channels)
        keys, values = cache.update(turned[self.num_heads :].view(own), seen[:, split:].view(own), index)
        queries = turned[: self.num_heads].view(self.num_keys, -1, self.channels)  # (k, h/k, c)
        scores = torch.bmm(queries, keys[0].transpose(1, 2)) * self.channels**-0.5  # (k, h/k, l)
        return torch.bmm(scores.softmax(-1), values[0]).view(1, -1)


class _Layer:
    """The weights of a layer."""

    def __init__(self, layer: Any, exact: bool) -> None:
        attention, inner = layer.self_attn, layer.mlp
        projections = [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
        self.input_norm: Tensor = layer.input_layernorm.weight.detach()
        self.inner_norm: Tensor = layer.post_attention_layernorm.weight.detach()
        self.attended = _product(projections, exact)
        self.leave = _product([attention.o_proj.weight], exact)
        self.widened = _product([inner.gate_proj.weight, inner.up_proj.weight], exact)
        self.narrowed = _product([inner.down_proj.weight], exact)


def _product(weights: Sequence[Tensor], exact: bool) -> Product:
    """Return the product with vertically stacked matrices (n, d)."""
    weights = [weight.detach() for weight in weights]
    if exact:
        if len(weights) == 1:
            return lambda hidden: F.linear(hidden, weights[0])
        return lambda hidden: torch.cat([F.linear(hidden, weight) for weight in weights], dim=-1)
    joined = torch.cat(weights) if len(weights) > 1 else weights[0]
    return _in_four_bits(joined) or _in_eight_bits(joined)


def _in_four_bits(weight: Tensor) -> Product | None:
    """Return the product with a matrix whose blocks of 32 weights lie on grids of 16 steps; None for others."""
    num_rows, width = weight.shape
    if num_rows % 16 or width % _GROUP:
        return None
    if _on_grid(weight[:16]) is None or (found := _on_grid(weight)) is None:  # a few rows usually suffice
        return None
    places, step, lowest = found
    packed = _KERNELS._convert_weight_to_int4pack_for_cpu(places, 1)
    grid = torch.stack([step, lowest + 8 * step], dim=-1).transpose(0, 1).contiguous().bfloat16()  # (d / 32, n, 2)
    return lambda hidden: _KERNELS._weight_int4pack_mm_for_cpu(hidden.bfloat16(), packed, _GROUP, grid).float()


def _on_grid(weight: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the indices (n, d) of weights on their grids of 16, and the step and start (n, d / 32) of each grid."""
    groups = weight.view(len(weight), -1, _GROUP)
    lowest, highest = groups.aminmax(dim=-1)
    step = ((highest - lowest) / 15).clamp_min(torch.finfo(weight.dtype).tiny)
    places = groups.sub(lowest[..., None]).div_(step[..., None])
    rounded = places.round()
    if places.sub_(rounded).abs_().max() > _GRID_TOLERANCE:
        return None
    return rounded.to(torch.int32).view_as(weight), step, lowest


def _in_eight_bits(weight: Tensor) -> Product:
    """Return the product with a matrix whose rows are rounded to 255 steps."""
    step = (weight.abs().amax(dim=1) / 127).clamp_min(torch.finfo(weight.dtype).tiny)
    packed = (weight / step[:, None]).round().to(torch.int8)
    step = step.bfloat16()
    return lambda hidden: _KERNELS._weight_int8pack_mm(hidden.bfloat16(), packed, step).float()


def _has_kernels() -> bool:
    """Return whether this CPU multiplies packed weights quickly; elsewhere torch falls back to loops."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_f") or capabilities.get("avx512") or capabilities.get("avx2"))


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
