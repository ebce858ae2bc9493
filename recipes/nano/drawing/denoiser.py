"""Training of the denoiser: a small Stable Diffusion whose text encoder knows what things look like.

    python -m mgem_agent.recipes.nano denoiser FOLDER autoencoder=FOLDER scenes=FOLDER [key=value …]

A `UNet2DConditionModel` learns to predict the velocity (Salimans and Ho, 2022) of the noisy latents of scenes. The
tokenizer writes each thing as the cells of its picture, and the table of the text encoder starts as what these cells
look like. With the looks, the U-Net denoises a layout (`layout_latents`). So it learns one skill that all things share:
to copy the cell that the layout names. The loss counts things more than their background. The result is a
`StableDiffusionPipeline` folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderTiny,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.training_utils import compute_snr
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from mgem_agent.recipes.nano.drawing.cell_table import cell_looks, cell_text_encoder, look_width, place_looks
from mgem_agent.recipes.nano.drawing.cell_tokenizer import CellGrid, cell_tokenizer
from mgem_agent.recipes.nano.drawing.layout_latents import NUM_LAYOUT_CHANNELS
from mgem_agent.recipes.nano.drawing.scene_latents import SceneLatents
from mgem_agent.recipes.nano.drawing.vocabulary import nano_vocabulary
from mgem_agent.recipes.nano.pretraining import Count, Decay, PretrainingConfig, PretrainingRun, Rate
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.train.config import Precision
from mgem_agent.recipes.train.precision import bf16_where_fast

__all__ = [
    "SCHEDULE",
    "SHEET_CAPTIONS",
    "SHEET_SEEDS",
    "DenoiserConfig",
    "make_pipeline",
    "seed_sheet",
    "train_denoiser",
    "velocity_loss",
]

SCHEDULE: dict[str, Any] = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}
"""Settings of diffusers' noise schedulers."""

SHEET_CAPTIONS = (
    "a fox in the snow",
    "a red apple on a plain yellow background",
    "an owl at night",
    "a sailing boat on the sea",
    "a cat and a dog in a meadow",
    "a rabbit to the left of a fir tree, in the mountains",
    "three mushrooms in a forest",
    "a rocket",
)
"""Captions of the contact sheet."""

SHEET_SEEDS = 6
"""Pictures of each caption on the contact sheet."""

_LARGE = 0.6
"""Size from which a thing is large."""
_LOOK_KEYS, _CODE_KEYS = 0.25, 2.0
"""Factors on the first weights of attention's keys: cells are found by their position rather than by their look."""


class DenoiserConfig(PretrainingConfig):
    """Settings of the recipe `denoiser`.

    Attributes:
        autoencoder: Folder of the autoencoder that the recipe `layout_encoder` wrote.
        scenes: Folder of the recipe `scene_latents`.
        widths: Channels at each resolution, finest first.
        attends: Whether there is attention to the caption at each resolution; it is always there at the coarsest.
        copies: Whether attention at a resolution is to the caption only, and not also between positions.
        num_heads: Attention heads at each resolution.
        num_text_layers: Layers of the text encoder.
        image_px: Side of the pictures.
        orthogonal: Whether Muon trains the kernels and matrices of the denoiser.
        table_factor: Factor on the learning rate of the text encoder's table.
        large_steps: First steps, whose scenes have one large thing.
        layout_weight: Weight of the loss of the layout.
        thing_weight: Extra weight of the loss where there is a thing.
        dropped: Share of captions that are left out, for guidance.
        snr_gamma: Upper limit of the signal-to-noise weight.
        sheet_every: Steps between contact sheets.
        precision: `bf16`, `fp32`, or `auto` for what the hardware does fastest.
    """

    num_steps: Count = 2_000
    batch_size: Count = 32
    learning_rate: Rate = 1.5e-3
    warmup_steps: int = Field(default=60, ge=0)
    ema_decay: Decay = 0.998
    autoencoder: str
    scenes: str
    widths: tuple[int, ...] = Field(default=(64, 128, 192), min_length=2)
    attends: tuple[bool, ...] = (True, False, True)
    copies: tuple[bool, ...] = (True, False, False)
    num_heads: tuple[int, ...] = (2, 4, 6)
    num_text_layers: int = Field(default=1, ge=1)
    image_px: int = Field(default=128, ge=16, multiple_of=8)
    orthogonal: bool = True
    table_factor: Rate = 1.0
    large_steps: int = Field(default=250, ge=0)
    layout_weight: float = Field(default=0.5, ge=0)
    thing_weight: float = Field(default=2.0, ge=0)
    dropped: float = Field(default=0.1, ge=0, lt=1)
    snr_gamma: float = Field(default=5.0, gt=0)
    sheet_every: Count = 100
    precision: Precision = "auto"


def make_pipeline(config: DenoiserConfig, assets: EmojiAssets) -> Any:
    """Return a `StableDiffusionPipeline` of the trained autoencoder, the table of looks and an untrained denoiser."""
    autoencoder: Any = AutoencoderTiny.from_pretrained(config.autoencoder, dtype=torch.float32)
    autoencoder.requires_grad_(False).eval()
    grid = CellGrid()
    looks, places = cell_looks(autoencoder, assets, grid), place_looks(autoencoder, grid, config.image_px)
    text_encoder = cell_text_encoder(looks, places, grid, config.num_text_layers, config.seed)
    torch.manual_seed(config.seed)
    blocks = {True: ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), False: ("DownBlock2D", "UpBlock2D")}
    sides: dict[str, Any] = {
        "attention_head_dim": config.num_heads,  # of old, this argument is the number of heads
        "only_cross_attention": config.copies,
    }
    unet: Any = UNet2DConditionModel(
        sample_size=config.image_px // 2 ** (len(autoencoder.config.encoder_block_out_channels) - 1),
        in_channels=autoencoder.config.latent_channels,
        out_channels=autoencoder.config.latent_channels,
        down_block_types=tuple(blocks[attends][0] for attends in config.attends),
        up_block_types=tuple(blocks[attends][1] for attends in reversed(config.attends)),
        block_out_channels=config.widths,
        layers_per_block=1,
        cross_attention_dim=text_encoder.config.hidden_size,
        **sides,
        norm_num_groups=16,
    )
    _look_for_positions(unet, look_width(autoencoder.config.latent_channels - NUM_LAYOUT_CHANNELS))
    parts: dict[str, Any] = {
        "vae": autoencoder,
        "text_encoder": text_encoder,
        "tokenizer": cell_tokenizer(nano_vocabulary(), grid),
        "unet": unet,
        "scheduler": DPMSolverMultistepScheduler(timestep_spacing="trailing", steps_offset=1, **SCHEDULE),
        "safety_checker": None,
        "feature_extractor": None,
    }
    return StableDiffusionPipeline(**parts, requires_safety_checker=False)


@torch.no_grad()
def _look_for_positions(unet: Any, width: int) -> None:
    for name, module in unet.named_modules():
        if name.endswith("attn2.to_k"):
            module.weight[:, :width] *= _LOOK_KEYS
            module.weight[:, width:] *= _CODE_KEYS


def velocity_loss(
    pipeline: Any, noising: Any, batch: tuple[Tensor, Tensor, Tensor], chance: torch.Generator, config: DenoiserConfig
) -> Tensor:
    """Return (B,) the weighted error of the predicted velocity, at one random time step for each picture.

    Args:
        pipeline: The pipeline that is trained.
        noising: Noise scheduler.
        batch: (B, c, h, h) latents, (B, h, h) coverage by things and (B, L) tokens, from `SceneLatents`.
        chance: Random generator of time steps, noise and dropped captions.
        config: Weights.
    """
    latents, covered, tokens = batch
    num = len(latents)
    noise = torch.randn(latents.shape, generator=chance).to(latents.device)
    spread = (torch.arange(num) + torch.rand(num, generator=chance)) / num
    times = (spread * noising.config.num_train_timesteps).long().to(latents.device)
    is_dropped = (torch.rand(num, generator=chance) < config.dropped).to(latents.device)
    nothing = torch.ones_like(tokens[0])
    nothing[0] = 0
    tokens = torch.where(is_dropped[:, None], nothing, tokens)
    text = pipeline.text_encoder(tokens).last_hidden_state
    noisy = noising.add_noise(latents, noise, times).contiguous(memory_format=torch.channels_last)
    wrong = pipeline.unet(noisy, times, encoder_hidden_states=text).sample.float()
    wrong = (wrong - noising.get_velocity(latents, noise, times)).square()
    looks, layout = wrong.split((wrong.shape[1] - NUM_LAYOUT_CHANNELS, NUM_LAYOUT_CHANNELS), dim=1)
    wrong = looks.mean(1) + config.layout_weight * layout.mean(1)
    weights = 1 + config.thing_weight * covered
    wrong = (wrong * weights).sum((1, 2)) / weights.sum((1, 2))
    snr = compute_snr(noising, times)
    return wrong * (snr.clamp(max=config.snr_gamma) + 1) / (snr + 1)


def train_denoiser(folder: str | Path, config: DenoiserConfig, assets: EmojiAssets) -> Path:
    """Train the denoiser, resuming from the folder's checkpoint, and write it for diffusers.

    The scenes are those that the folder of scenes has at each step, so two runs differ a little.

    Returns:
        The folder that `AutoPipelineForText2Image.from_pretrained` reads.
    """
    folder = Path(folder)
    pipeline = make_pipeline(config, assets)
    pipeline.unet.to(memory_format=torch.channels_last)
    table = next(p for name, p in pipeline.text_encoder.named_parameters() if name.endswith("token_embedding.weight"))
    trained = nn.ModuleDict({"unet": pipeline.unet, "text": pipeline.text_encoder})
    kernels = [p for p in pipeline.unet.parameters() if p.ndim >= 2] if config.orthogonal else []
    run = PretrainingRun(folder, trained, config, {table: config.table_factor}, kernels)
    pipeline.to(run.device)
    scenes = SceneLatents(config.scenes)
    noising: Any = DDPMScheduler(**SCHEDULE)
    for step in run.steps():
        if step and step % config.sheet_every == 0:
            scenes.refresh()
            with run.averaged_weights():
                seed_sheet(pipeline, SHEET_CAPTIONS, folder / f"sheet_{step}.png", num_seeds=2)
        least_size = _LARGE if step < config.large_steps else 0
        chance = np.random.default_rng((config.seed, step))
        latents, covered, tokens = scenes.batch(chance, config.batch_size, least_size)
        batch = (latents.to(run.device), covered.to(run.device), tokens.to(run.device))
        with bf16_where_fast(run.device, config.precision):
            wrong = velocity_loss(pipeline, noising, batch, run.generator(step), config)
        clear, noisy = wrong.detach().tensor_split(2)  # the time steps are in order
        run.update(wrong.mean(), clear=float(clear.mean()), noisy=float(noisy.mean()))
    with run.averaged_weights():
        pipeline.save_pretrained(folder / "pipeline")
        seed_sheet(pipeline, SHEET_CAPTIONS, folder / "contact_sheet.png", num_seeds=SHEET_SEEDS)
    return folder / "pipeline"


@torch.no_grad()
def seed_sheet(
    pipeline: Any,
    captions: tuple[str, ...],
    file: Path,
    *,
    num_seeds: int,
    steps: int = 12,
    guidance: float = 3.0,
) -> None:
    """Write a picture with a column for each caption and a row for each seed."""
    pipeline.set_progress_bar_config(disable=True)
    rows = []
    for seed in range(num_seeds):
        generators = [torch.Generator().manual_seed(seed) for _ in captions]
        with bf16_where_fast("cpu"):
            drawn = pipeline(
                list(captions), num_inference_steps=steps, guidance_scale=guidance, generator=generators
            ).images
        rows.append(drawn)
    side = rows[0][0].width
    sheet = Image.new("RGB", (side * len(captions), side * num_seeds))
    for row, drawn in enumerate(rows):
        for column, picture in enumerate(drawn):
            sheet.paste(picture, (column * side, row * side))
    sheet.save(file)
