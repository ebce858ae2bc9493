"""Inpainting by image to image: outside the mask are the latents of the start picture, with the noise of the step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from mgem_agent.tools.diffusers.masked_steps import MaskedSteps, needs_masked_steps
from mgem_agent.tools.image_request import ImageRequest


@pytest.fixture(scope="module")
def pipeline() -> Any:
    torch.manual_seed(0)
    autoencoder = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8), num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1), latent_channels=6, scaling_factor=2.0,
    ).eval()  # fmt: skip
    scheduler: Any = DDIMScheduler()
    scheduler.set_timesteps(4)
    return SimpleNamespace(
        vae=autoencoder, scheduler=scheduler, image_processor=VaeImageProcessor(vae_scale_factor=4),
        components={"vae": autoencoder, "unet": SimpleNamespace(config=SimpleNamespace(in_channels=6))},
    )  # fmt: skip


@pytest.fixture
def masked(pipeline: Any) -> MaskedSteps:
    mask = Image.new("L", (32, 32))
    mask.paste(255, (16, 0, 32, 32))
    start = Image.linear_gradient("L").resize((32, 32)).convert("RGB")
    plan: Any = SimpleNamespace(start=start, mask=mask, request=ImageRequest(prompt="a fox", seed=4))
    return MaskedSteps(pipeline, [plan])


def test_the_last_step_leaves_the_start_picture_outside_the_mask(pipeline: Any, masked: MaskedSteps) -> None:
    drawn = torch.full((1, 6, 8, 8), 7.0)
    latents = masked.after_step(pipeline.scheduler.timesteps[-1], drawn)
    assert (latents[..., 4:] == 7).all()
    again = masked.after_step(pipeline.scheduler.timesteps[-1], torch.zeros_like(drawn))
    assert torch.equal(latents[..., :4], again[..., :4])
    assert latents[..., :4].abs().max() < 7


def test_earlier_steps_leave_the_noise_of_the_next(pipeline: Any, masked: MaskedSteps) -> None:
    last = pipeline.scheduler.timesteps[-1]
    drawn = torch.zeros(1, 6, 8, 8)
    clear = masked.after_step(last, drawn)
    errors = [(masked.after_step(t, drawn) - clear).square().mean().item() for t in pipeline.scheduler.timesteps]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.1 > errors[-1] == 0


@pytest.mark.parametrize(("channels", "is_needed"), [(4, False), (9, False), (6, True), (8, False)])
def test_only_latents_that_diffusers_refuses_need_it(pipeline: Any, channels: int, is_needed: bool) -> None:
    unet = SimpleNamespace(config=SimpleNamespace(in_channels=channels))
    parts = SimpleNamespace(components={**pipeline.components, "unet": unet})
    assert needs_masked_steps(parts) == is_needed
    assert not needs_masked_steps(SimpleNamespace(components={}))
