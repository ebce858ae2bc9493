"""Inpainting with a pipeline of image to image: after each step, everything outside the mask becomes the start picture.

diffusers' inpainting pipelines of Stable Diffusion only take latents of four channels. This takes any latents: those
outside the mask are replaced with the latents of the start picture, with as much noise as the step leaves (Lugmayr et
al., 2022, without resampling).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from mgem_agent.tools.diffusers.plan import DrawingPlan

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MaskedSteps", "needs_masked_steps"]

_INPAINTING_CHANNELS = (4, 9)
"""Input channels of the U-Nets that diffusers' inpainting pipelines take."""


def needs_masked_steps(pipeline: Any) -> bool:
    """Return whether a U-Net has other latents than diffusers' inpainting pipelines take."""
    unet, autoencoder = pipeline.components.get("unet"), pipeline.components.get("vae")
    if unet is None or autoencoder is None:
        return False
    channels = unet.config.in_channels
    return channels not in _INPAINTING_CHANNELS and channels == autoencoder.config.latent_channels


class MaskedSteps:
    """The latents outside the masks of a batch.

    Args:
        pipeline: A pipeline of image to image.
        plans: Plans with a start picture and a mask, in the same size.
    """

    def __init__(self, pipeline: Any, plans: Sequence[DrawingPlan]) -> None:
        import numpy as np
        import torch

        self._pipeline = pipeline
        autoencoder = pipeline.vae
        pixels = pipeline.image_processor.preprocess([plan.start for plan in plans])
        with torch.no_grad():
            encoded = autoencoder.encode(pixels.to(device=autoencoder.device, dtype=autoencoder.dtype))
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        self._start = latents * autoencoder.config.scaling_factor
        chances = [torch.Generator("cpu").manual_seed(plan.request.seed or 0) for plan in plans]
        noise = [torch.randn(self._start.shape[1:], generator=chance) for chance in chances]
        self._noise = torch.stack(noise).to(self._start)
        size = (self._start.shape[-1], self._start.shape[-2])
        masks = [plan.mask.convert("L").resize(size, Image.Resampling.BOX) for plan in plans if plan.mask is not None]
        self._mask = torch.from_numpy(np.stack([np.asarray(mask) for mask in masks])[:, None] / 255).to(self._start)

    def after_step(self, timestep: Any, latents: Tensor) -> Tensor:
        """Return latents whose part outside the mask is the start picture's, with the noise of the next step."""
        scheduler = self._pipeline.scheduler
        later = scheduler.timesteps[scheduler.timesteps < timestep]
        kept = self._start
        if len(later):
            kept = scheduler.add_noise(self._start, self._noise, later[:1].expand(len(kept)))
        return (self._mask * latents + (1 - self._mask) * kept).to(latents.dtype)
