"""Fine-tuning of the decoder on the latents that the denoiser predicts.

    python -m mgem_agent.recipes.nano denoised_decoder FOLDER pipeline=FOLDER [key=value …]

Encoded scenes get a little noise, the denoiser predicts them without it, and the decoder learns to draw the scenes from
the predictions, which lack some detail. A quarter of each batch are the encoded scenes themselves, so that the decoder
still reconstructs any picture. A decoder draws the mean of what latents may stand for, which is soft. So it can learn
from sharpened scenes: because sharpening is linear, it then draws that mean sharpened. Nothing else is trained. The
result is the pipeline's folder in float16 with this decoder, `nano.json` and the vocabulary: a folder that
`NanoGenerator` draws with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from pydantic import Field
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from mgem_agent.nano.drawing import NanoDrawing
from mgem_agent.recipes.nano.drawing.aligned_scenes import aligned_pixels, aligned_scenes
from mgem_agent.recipes.nano.drawing.autoencoder import detail_loss
from mgem_agent.recipes.nano.drawing.denoiser import SCHEDULE, SHEET_CAPTIONS, SHEET_SEEDS, seed_sheet
from mgem_agent.recipes.nano.drawing.pipeline_export import export_pipeline
from mgem_agent.recipes.nano.pretraining import Count, Decay, PretrainingConfig, PretrainingRun, Rate
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.train.config import Precision
from mgem_agent.recipes.train.precision import bf16_where_fast

__all__ = ["DenoisedDecoderConfig", "sharpened", "train_denoised_decoder"]

_BLUR_PX = 7
"""Size of the kernel of a blur, over three standard deviations."""


class DenoisedDecoderConfig(PretrainingConfig):
    """Settings of the recipe `denoised_decoder`.

    Attributes:
        pipeline: Folder of the trained pipeline.
        image_px: Side of the scenes.
        noisiest: Maximum time step of the noise, as a share of the schedule.
        sharpness: How much the scenes are sharpened: weight of their difference from their blur; 0 for not at all.
        steps: Denoising steps of the exported pipeline if a request sets none.
        guidance_scale: Its guidance if a request sets none.
        precision: `bf16`, `fp32`, or `auto` for what the hardware does fastest.
    """

    num_steps: Count = 300
    batch_size: int = Field(default=8, ge=4)
    learning_rate: Rate = 5e-4
    warmup_steps: int = Field(default=10, ge=0)
    ema_decay: Decay = 0.99
    pipeline: str
    image_px: int = Field(default=128, ge=16)
    noisiest: float = Field(default=0.4, gt=0, le=1)
    sharpness: float = Field(default=0.0, ge=0, le=4)
    steps: int = Field(default=12, ge=1)
    guidance_scale: float = Field(default=3.0, ge=0)
    precision: Precision = "auto"


def train_denoised_decoder(folder: str | Path, config: DenoisedDecoderConfig, assets: EmojiAssets) -> Path:
    """Train the decoder, resuming from the folder's checkpoint, and write the whole pipeline for diffusers.

    Returns:
        The folder that `AutoPipelineForText2Image.from_pretrained` reads.
    """
    folder = Path(folder)
    pipeline: Any = StableDiffusionPipeline.from_pretrained(config.pipeline, dtype=torch.float32, safety_checker=None)
    for part in (pipeline.unet, pipeline.text_encoder, pipeline.vae):
        part.requires_grad_(False).eval().to(memory_format=torch.channels_last)
    decoder = pipeline.vae.decoder.requires_grad_(True)
    run = PretrainingRun(folder, decoder, config)
    pipeline.to(run.device)
    noising: Any = DDPMScheduler(**SCHEDULE)
    for step in run.steps():
        pairs = aligned_scenes(config.seed + 1, step * config.batch_size, config.batch_size)
        scenes = aligned_pixels([scene for scene, _ in pairs], assets, config.image_px).to(run.device)
        with bf16_where_fast(run.device, config.precision):
            latents = _predicted(pipeline, noising, scenes, [words for _, words in pairs], run.generator(step), config)
            drawn = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample.float()
        run.update(detail_loss(drawn, sharpened(scenes, config.sharpness)))
    with run.averaged_weights():
        seed_sheet(pipeline, SHEET_CAPTIONS, folder / "contact_sheet.png", num_seeds=SHEET_SEEDS)
        drawing = NanoDrawing(size_px=config.image_px, steps=config.steps, guidance_scale=config.guidance_scale)
        return export_pipeline(pipeline, folder / "pipeline", drawing)


def sharpened(pictures: Tensor, sharpness: float) -> Tensor:
    """Return pictures (B, 3, h, w) plus a multiple of their difference from their Gaussian blur, of one pixel.

    Values may leave the range of the pictures; whoever shows them clips them.

    Args:
        pictures: The pictures.
        sharpness: The multiple; 0 changes nothing.
    """
    blurred = gaussian_blur(pictures, kernel_size=[_BLUR_PX, _BLUR_PX], sigma=[1.0, 1.0])
    return pictures + sharpness * (pictures - blurred)


@torch.no_grad()
def _predicted(
    pipeline: Any,
    noising: Any,
    scenes: Tensor,
    captions: list[str],
    chance: torch.Generator,
    config: DenoisedDecoderConfig,
) -> Tensor:
    """Return (B, c, h, h) scaled latents of scenes: a quarter as encoded, the others as the denoiser predicts them."""
    latents = pipeline.vae.encode(scenes).latents.float() * pipeline.vae.config.scaling_factor
    noisiest = max(1, round(config.noisiest * noising.config.num_train_timesteps))
    times = torch.randint(0, noisiest, (len(latents),), generator=chance).to(latents.device)
    noise = torch.randn(latents.shape, generator=chance).to(latents.device)
    tokens = pipeline.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
    text = pipeline.text_encoder(tokens.to(latents.device)).last_hidden_state
    noisy = noising.add_noise(latents, noise, times).contiguous(memory_format=torch.channels_last)
    velocity = pipeline.unet(noisy, times, encoder_hidden_states=text).sample.float()
    kept = noising.alphas_cumprod.to(latents.device)[times].view(-1, 1, 1, 1)
    predicted = kept.sqrt() * noisy - (1 - kept).sqrt() * velocity
    num_whole = len(latents) // 4
    return torch.cat([latents[:num_whole], predicted[num_whole:]])
