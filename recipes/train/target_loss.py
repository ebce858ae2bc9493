"""The loss of a micro-batch, computed only at the targets.

The head computes logits only at positions whose next token is a target. A record with 64 visual tokens, a question and
a short answer has few of them, and each row of logits has the size of the vocabulary. Many targets are processed in
parts, whose logits are recomputed in the backward pass. On a GPU, Liger's fused kernel (arXiv:2410.10989, section 3.2)
does both without keeping logits, if the package `liger-kernel` is installed.

The sum over the targets is divided by the number of targets in the whole step, over all micro-batches and processes. So
every target has the same weight, however the step is divided.

Shapes: b records, l tokens, t targets, d hidden size of the LLM.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mgem_agent.core_model import MiniGeminiForConditionalGeneration
from mgem_agent.extras import is_installed
from mgem_agent.recipes.train.examples import NO_TARGET

__all__ = ["TargetLoss"]

_TARGETS_PER_PASS = 2048
"""Targets of one part: half a gigabyte of float32 logits with a vocabulary of 64k."""


class TargetLoss(nn.Module):
    """A model and its loss as one module, which distributed training wraps.

    Args:
        model: The model; adapters are inside it.
        needs_images: Whether a batch without images encodes a blank one. Processes wait for each other's gradients of
            the vision part.
        fused: Whether Liger's kernel computes the loss; None for a GPU with the package.
    """

    def __init__(
        self, model: MiniGeminiForConditionalGeneration, *, needs_images: bool = False, fused: bool | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self._needs_images = needs_images
        self._fused = fused
        self._has_liger = is_installed("liger_kernel")

    @property
    def _no_split_modules(self) -> list[str]:
        """Class of the decoder's layers; FSDP shards each layer as one unit, unless its configuration names others."""
        return [type(cast(Any, self.model.model.language_model).layers[0]).__name__]

    def forward(self, inputs: dict[str, Tensor], num_targets: Tensor) -> Tensor:
        """Return the summed cross-entropy of the batch's targets, divided by `num_targets`.

        Args:
            inputs: `input_ids`, `attention_mask`, `labels` (b, l); and the pixels, if there are images.
            num_targets: () number of targets of the whole step.
        """
        trunk = self.model.model
        labels = inputs["labels"][:, 1:]
        rest = {name: value for name, value in inputs.items() if name != "labels"}
        blank: Tensor | None = None
        if self._needs_images and "pixel_values" not in rest:
            blank = self._blank_image(rest["input_ids"].device)
        balances = bool(getattr(self.model.config.text_config, "output_router_logits", False))
        options: dict[str, Any] = {"output_router_logits": True} if balances else {}
        outputs = trunk(**_without_idle_mask(rest), use_cache=False, **options)
        is_target = labels != NO_TARGET
        hidden = outputs.last_hidden_state[:, :-1][is_target]  # (t, d)
        loss = self._cross_entropy(hidden, labels[is_target]) / num_targets
        if balances:
            loss = loss + self._balance(outputs.router_logits, inputs) * len(hidden) / num_targets
        return loss if blank is None else loss + blank

    def _cross_entropy(self, hidden: Tensor, targets: Tensor) -> Tensor:
        fused = hidden.is_cuda and self._has_liger if self._fused is None else self._fused
        if fused and len(hidden) and self._has_whole_head():
            from liger_kernel.transformers.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyLoss

            kernel: Any = LigerFusedLinearCrossEntropyLoss(reduction="sum", accum_dtype=torch.float32)
            loss: Tensor = kernel(self.model.lm_head.weight, hidden, targets)
            return loss
        if len(hidden) <= _TARGETS_PER_PASS:
            return self._pass(hidden, targets)
        total = hidden.new_zeros((), dtype=torch.float32)
        for some, their in zip(hidden.split(_TARGETS_PER_PASS), targets.split(_TARGETS_PER_PASS), strict=True):
            piece: Any = checkpoint(self._pass, some, their, use_reentrant=False)
            total = total + piece
        return total

    def _has_whole_head(self) -> bool:
        """Whether this process has the whole weight of the head, and the logits are its product alone.

        Under ZeRO-3, and sometimes FSDP2, the weight is gathered only while the head's own forward runs.
        """
        head = self.model.lm_head
        is_plain = type(head) is nn.Linear and head.bias is None and type(head.weight) is nn.Parameter
        is_whole = is_plain and head.weight.shape == (head.out_features, head.in_features)
        return is_whole and getattr(self.model.config.text_config, "final_logit_softcapping", None) is None

    def _pass(self, hidden: Tensor, targets: Tensor) -> Tensor:
        scores = self.model.lm_head(hidden).float()  # (t, vocabulary)
        cap = getattr(self.model.config.text_config, "final_logit_softcapping", None)
        if cap is not None:
            scores = torch.tanh(scores / cap) * cap
        return F.cross_entropy(scores, targets, reduction="sum")

    def _blank_image(self, device: torch.device) -> Tensor:
        """Return zero with a gradient graph through the vision part."""
        config = self.model.config
        low = torch.zeros(1, 3, config.geometry.low_res_input_size, config.geometry.low_res_input_size, device=device)
        side = config.high_res_image_size
        high = None if side is None else torch.zeros(1, 3, side, side, device=device)
        features: Any = self.model.model.get_image_features(low, high).pooler_output
        nothing: Tensor = features[0].float().sum() * 0
        return nothing

    def _balance(self, router_logits: Any, inputs: dict[str, Tensor]) -> Tensor:
        """Return the load-balancing loss of a mixture of experts, if its configuration asks for it."""
        from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

        config: Any = self.model.config.text_config
        num_experts = getattr(config, "num_local_experts", None) or config.num_experts
        loss: Any = load_balancing_loss_func(
            router_logits, num_experts, config.num_experts_per_tok, inputs["attention_mask"]
        )
        weighted: Tensor = loss * config.router_aux_loss_coef
        return weighted


def _without_idle_mask(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Omit an attention mask without zeros: attention is faster without one."""
    if bool(inputs["attention_mask"].all()):
        return {name: value for name, value in inputs.items() if name != "attention_mask"}
    return inputs
