"""Decode the unfinished picture of a drawing, to show it while the pipeline draws.

What is decoded is the model's current estimate of the finished picture, where the scheduler tells it or it follows from
two steps; otherwise the noisy latents. Decoding draws no random numbers and changes nothing that the pipeline uses, so
the finished picture has the same bytes with previews and without.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from PIL import Image

__all__ = ["OnStep", "PreviewDecoder", "Unfinished", "can_preview", "no_previews"]

Unfinished = Callable[[], list[Image.Image]]
"""Decodes the unfinished pictures of a batch, in its order; empty if they cannot be decoded."""

OnStep = Callable[[int, int, Unfinished], None]
"""Called after each step with the steps done, from 1, the steps in all, and what decodes the unfinished pictures. What
it raises stops the drawing."""

_log = logging.getLogger(__name__)


def no_previews() -> list[Image.Image]:
    """Return no pictures."""
    return []


def can_preview(cls: type[Any]) -> bool:
    """Whether the latents of a pipeline class can be decoded here.

    FLUX.2 packs its latents with ids that a callback does not get. Pipelines without an autoencoder have no latents.

    Args:
        cls: A pipeline class of diffusers.
    """
    return "vae" in inspect.signature(cls.__init__).parameters and not hasattr(cls, "_unpack_latents_with_ids")


class PreviewDecoder:
    """Decodes the latents of one call of a pipeline.

    Args:
        pipeline: The pipeline that draws.
        size: Width and height of the pictures in pixels; None if the pipeline chooses them.
    """

    def __init__(self, pipeline: Any, size: tuple[int, int] | None) -> None:
        self._pipeline = pipeline
        self._size = size
        self._before: tuple[Any, float] | None = None

    def after_step(self, latents: Any) -> Unfinished:
        """Take note of the latents after a step, and return what decodes them.

        Args:
            latents: Latents of the batch; None if the pipeline does not give them.
        """
        if latents is None or self._pipeline.components.get("vae") is None:
            return no_previews
        sigma = _sigma(self._pipeline.scheduler)
        before, self._before = self._before, None if sigma is None else (latents, sigma)
        return lambda: self._pictures(latents, before)

    def _pictures(self, latents: Any, before: tuple[Any, float] | None) -> list[Image.Image]:
        import torch

        try:
            with torch.no_grad():
                return self._decoded(_estimate(self._pipeline.scheduler, latents, before))
        except Exception as error:  # a preview must never end the drawing
            _log.warning("A preview cannot be decoded (%s: %s); the drawing continues.", type(error).__name__, error)
            return []

    def _decoded(self, latents: Any) -> list[Image.Image]:
        import torch

        pipeline, vae = self._pipeline, self._pipeline.vae
        if latents.ndim == 3:
            width, height = self._size or (pipeline.default_sample_size * pipeline.vae_scale_factor,) * 2
            latents = pipeline._unpack_latents(latents, height, width, pipeline.vae_scale_factor)
        latents = _unscaled(latents, vae.config)
        dtype = vae.dtype
        is_upcast = dtype == torch.float16 and bool(getattr(vae.config, "force_upcast", False))
        try:
            if is_upcast:
                vae.to(torch.float32)
            pixels = vae.decode(latents.to(torch.float32 if is_upcast else dtype), return_dict=False)[0]
        finally:
            if is_upcast:
                vae.to(dtype)
        pixels = pixels[:, :, 0] if pixels.ndim == 5 else pixels  # (B, C, frames, H, W): one frame
        pictures = pipeline.image_processor.postprocess(pixels.float(), output_type="pil")
        return [picture.convert("RGB") for picture in pictures]


def _unscaled(latents: Any, config: Any) -> Any:
    """Undo the scaling of latents, as pipelines do before they decode."""
    import torch

    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    scale = getattr(config, "scaling_factor", None) or 1.0
    if mean is not None and std is not None:
        shape = (1, -1, *[1] * (latents.ndim - 2))
        mean = torch.tensor(mean, device=latents.device, dtype=latents.dtype).view(shape)
        std = torch.tensor(std, device=latents.device, dtype=latents.dtype).view(shape)
        return latents * std / scale + mean
    return latents / scale + (getattr(config, "shift_factor", None) or 0.0)


def _sigma(scheduler: Any) -> float | None:
    """Return the noise level after the last step, for schedulers whose samples are linear in it; else None."""
    name, index = type(scheduler).__name__, getattr(scheduler, "step_index", None)
    if index is None or not ("Euler" in name or "FlowMatch" in name):
        return None
    return float(scheduler.sigmas[min(index, len(scheduler.sigmas) - 1)])


def _estimate(scheduler: Any, latents: Any, before: tuple[Any, float] | None) -> Any:
    """Return the estimate of the finished latents."""
    outputs = getattr(scheduler, "model_outputs", None)
    is_data = str(scheduler.config.get("algorithm_type", "")).endswith("dpmsolver++")
    if (is_data or scheduler.config.get("predict_x0")) and outputs and outputs[-1] is not None:
        return outputs[-1].to(latents.dtype)
    sigma = _sigma(scheduler)
    if sigma is None or before is None or before[1] == sigma:
        return latents
    previous, previous_sigma = before
    slope = (latents.float() - previous.float()) / (sigma - previous_sigma)
    return (latents.float() - sigma * slope).to(latents.dtype)
