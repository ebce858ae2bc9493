"""Training of nano's image generator.

    python -m mgem_agent.recipes.nano generator FOLDER autoencoder=FOLDER captions=FOLDER [key=value …]

A diffusion transformer (PixArt-α; Chen et al., 2023) with one patch for the whole picture learns to denoise latents of
the trained autoencoder. The trained text encoder is fine-tuned with it. First the transformer learns to read: which
facts a caption asks for (`fact_table`). Then the latents of each fact are written into its weights, and it learns to
draw and read together. It predicts the latents rather than the noise, because they need fewer dimensions (Li and He,
2025), on a cosine schedule. The loss is weighted by the signal-to-noise ratio (Hang et al., 2023) plus a constant, and
noisy time steps are sampled more often, because they decide what a thing is. The result is a `PixArtAlphaPipeline`
folder that diffusers loads without this package; call it with a `guidance_scale` of 1.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderTiny,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
)
from diffusers.models.attention_processor import AttnProcessor
from diffusers.training_utils import compute_snr
from PIL import Image
from pydantic import Field
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from mgem_agent.recipes.nano.drawing.caption_encoder import (
    captions_and_facts,
    fact_loss,
    fact_sizes,
    tokenize_captions,
)
from mgem_agent.recipes.nano.drawing.fact_table import (
    HEAD_WIDTH,
    begin_to_draw,
    begin_to_read,
    heard_facts,
    table_scores,
)
from mgem_agent.recipes.nano.drawing.scene_layers import SceneLayers
from mgem_agent.recipes.nano.pretraining import Count, Decay, PretrainingConfig, PretrainingRun, Rate
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene import Scene, sample_scene
from mgem_agent.recipes.nano.world.scene_captions import caption

__all__ = [
    "SCHEDULE",
    "FactLooks",
    "GeneratorConfig",
    "captions_to_read",
    "contact_sheet",
    "denoising_loss",
    "guessed_latents",
    "learn_looks",
    "make_pipeline",
    "scene_captions",
    "train_generator",
]

_FAR = 1_000_000_000
"""Offset between the scene indices that are tried until a scene has two things."""

_HEARD = 500
"""Number of captions used to measure the other inputs of the last layer."""

SCHEDULE: dict[str, Any] = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"}
"""Settings of diffusers' noise schedulers."""


class GeneratorConfig(PretrainingConfig):
    """Settings of the recipe `generator`.

    Attributes:
        autoencoder: Folder of the trained autoencoder.
        captions: Folder of the recipe `caption_encoder`.
        image_px: Side of the pictures.
        width: Hidden size of the transformer; at least half the number of facts. Two less is the number of principal
            components for the latents of facts.
        num_layers: Layers of the transformer. Fewer learn faster.
        num_reading_steps: First steps, which only train reading; 0 for a run that starts from another.
        max_tokens: Maximum tokens of a caption.
        fact_weight: Weight of the reading loss after these steps.
        evenness: Weight, in the reading loss, of the term that pulls the scores of active facts to one value; a fact
            with a low score is drawn pale.
        snr_gamma: Upper limit of the signal-to-noise weight.
        least_snr: Constant added to that weight, so that the noisiest time steps count.
    """

    num_steps: Count = 3_100
    batch_size: Count = 32
    learning_rate: Rate = 3e-4
    ema_decay: Decay = 0.99
    autoencoder: str
    captions: str
    image_px: int = Field(default=128, ge=16, multiple_of=8)
    width: int = Field(default=576, ge=32, multiple_of=32)
    num_layers: int = Field(default=1, ge=1)
    num_reading_steps: int = Field(default=3_000, ge=0)
    max_tokens: int = Field(default=48, ge=8, le=120)
    fact_weight: float = Field(default=0.1, ge=0)
    evenness: float = Field(default=0.3, ge=0)
    snr_gamma: float = Field(default=5.0, gt=0)
    least_snr: float = Field(default=1.0, ge=0)


def make_pipeline(config: GeneratorConfig) -> Any:
    """Return a `PixArtAlphaPipeline` of the trained autoencoder and text encoder and an untrained transformer."""
    autoencoder: Any = AutoencoderTiny.from_pretrained(config.autoencoder).requires_grad_(False).eval()
    text_encoder: Any = CLIPTextModel.from_pretrained(Path(config.captions) / "text_encoder", dtype=torch.float32)
    tokenizer: Any = CLIPTokenizer.from_pretrained(Path(config.captions) / "tokenizer")
    side = config.image_px // 2 ** (len(autoencoder.config.encoder_block_out_channels) - 1)
    torch.manual_seed(config.seed)
    transformer: Any = PixArtTransformer2DModel(
        num_attention_heads=config.width // HEAD_WIDTH,
        attention_head_dim=HEAD_WIDTH,
        in_channels=autoencoder.config.latent_channels,
        out_channels=autoencoder.config.latent_channels,
        num_layers=config.num_layers,
        cross_attention_dim=config.width,
        caption_channels=text_encoder.config.hidden_size,
        sample_size=side,
        patch_size=side,
        use_additional_conditions=False,
    )
    transformer.set_attn_processor(AttnProcessor())  # the fastest for few tokens
    for block in transformer.transformer_blocks:
        nn.init.ones_(block.scale_shift_table[5])  # the MLP is active from the start
    return PixArtAlphaPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=autoencoder,
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(timestep_spacing="trailing", steps_offset=1, **SCHEDULE),
    )


def scene_captions(step: int, config: GeneratorConfig) -> tuple[list[str], Tensor]:
    """Return the captions of the scenes of a step, and (B, 4) their facts."""
    first = step * config.batch_size
    scenes = [sample_scene(config.seed, first + row, kind="posed") for row in range(config.batch_size)]
    return captions_and_facts(scenes, config.seed, first)


def captions_to_read(step: int, config: GeneratorConfig) -> tuple[list[str], Tensor]:
    """Return captions of scenes that are only read, not drawn, and (B, 4) their facts.

    Every step has new ones, so that pairs of things are read rather than memorised; every other scene has two things.
    After the reading steps there are a quarter as many, which is enough not to forget.
    """
    scenes: list[Scene] = []
    first = step * config.batch_size
    num = config.batch_size if step < config.num_reading_steps else config.batch_size // 4
    for number in range(first, first + num):
        scene = sample_scene(config.seed + 1, number, kind="posed")
        tries = 1
        while number % 2 and len(scene.objects) < 2:
            scene = sample_scene(config.seed + 1, number + _FAR * tries, kind="posed")
            tries += 1
        scenes.append(scene)
    return captions_and_facts(scenes, config.seed + 1, first)


class FactLooks:
    """The latents of all facts.

    Args:
        autoencoder: The trained autoencoder, whose latents are additive.
        layers: The layers of scenes.
    """

    @torch.no_grad()
    def __init__(self, autoencoder: Any, layers: SceneLayers) -> None:
        pixels = torch.stack([layers.nothing, *(layers.layer(fact) for fact in range(len(layers)))])
        encoded = [autoencoder.encode(some).latents for some in pixels.split(16)]
        latents = torch.cat(encoded) * autoencoder.config.scaling_factor
        self.nothing = latents[0]
        """(c, h, h), scaled latents of the empty layer."""
        self.looks = latents[1:] - latents[0]
        """(F, c, h, h), scaled latents that each fact adds."""

    def asked(self, facts: Tensor) -> Tensor:
        """Return (B, F) 1 for each fact of a scene, otherwise 0.

        Args:
            facts: (B, 4) from `scene_slots`.
        """
        asked = [F.one_hot(n, size + 1)[:, :-1] for n, size in zip(facts.T, fact_sizes(), strict=True)]
        return torch.cat(asked, 1).float()

    def latents(self, facts: Tensor) -> Tensor:
        """Return (B, c, h, h) the scaled latents of scenes with the given facts, (B, 4)."""
        return self.nothing + torch.einsum("bf,fchw->bchw", self.asked(facts), self.looks)


def train_generator(folder: str | Path, config: GeneratorConfig, assets: EmojiAssets) -> Path:
    """Train the generator, resuming from the folder's checkpoint, and write it for diffusers.

    Returns:
        The folder that `AutoPipelineForText2Image.from_pretrained` reads.
    """
    folder = Path(folder)
    pipeline = make_pipeline(config)
    looks = FactLooks(pipeline.vae, SceneLayers(assets, config.image_px))
    if config.start_from is None:
        begin_to_read(pipeline.transformer)
    run = PretrainingRun(
        folder, nn.ModuleDict({"transformer": pipeline.transformer, "text": pipeline.text_encoder}), config
    )
    pipeline.to(run.device)
    noising: Any = DDPMScheduler(**SCHEDULE)
    for step in run.steps():
        if step and step == config.num_reading_steps:
            learn_looks(pipeline, noising, looks, config)
            run.forget_averages()
        captions, facts = scene_captions(step, config)
        more, their_facts = captions_to_read(step, config)
        latents = looks.latents(facts).to(run.device)
        with table_scores(pipeline.transformer) as scores:
            wrong = denoising_loss(pipeline, noising, latents, captions, run.generator(step), config, read=more)
        misread, right = fact_loss(scores[0], torch.cat([facts, their_facts]).to(run.device), config.evenness)
        loss = misread if step < config.num_reading_steps else wrong + config.fact_weight * misread
        run.update(loss, wrong=wrong.item(), misread=misread.item(), right=right)
    with run.averaged_weights():
        pipeline.save_pretrained(folder / "pipeline")
        contact_sheet(pipeline, assets, folder / "contact_sheet.png", size_px=config.image_px)
    return folder / "pipeline"


@torch.no_grad()
def learn_looks(pipeline: Any, noising: Any, looks: FactLooks, config: GeneratorConfig) -> None:
    """Write the latents of each fact into the transformer's weights."""
    found: list[Tensor] = []
    with heard_facts(pipeline.transformer) as heard:
        for step in range(math.ceil(_HEARD / config.batch_size)):
            captions, facts = scene_captions(step, config)
            latents = looks.latents(facts).to(pipeline.device)
            denoising_loss(pipeline, noising, latents, captions, torch.Generator().manual_seed(step), config)
            found.append(looks.asked(facts))
    begin_to_draw(
        pipeline.transformer,
        looks.nothing.to(pipeline.device),
        looks.looks.to(pipeline.device),
        heard,
        torch.cat(found).to(pipeline.device),
    )


def denoising_loss(
    pipeline: Any,
    noising: Any,
    latents: Tensor,
    captions: Sequence[str],
    chance: torch.Generator,
    config: GeneratorConfig,
    read: Sequence[str] = (),
) -> Tensor:
    """Return () the weighted error of the predicted latents, at one random time step for each picture.

    Args:
        pipeline: The pipeline that is trained.
        noising: Noise scheduler.
        latents: (B, c, h, h) scaled latents of the autoencoder.
        captions: B captions.
        chance: Random generator of time steps and noise.
        config: Lengths and weights.
        read: At most B more captions, which are only read: their predictions are ignored.
    """
    guessed, times = guessed_latents(pipeline, noising, latents, [*captions, *read], chance, config.max_tokens)
    wrong = (guessed[: len(latents)] - latents).square().mean((1, 2, 3))
    return (wrong * (compute_snr(noising, times).clamp(max=config.snr_gamma) + config.least_snr)).mean()


def guessed_latents(
    pipeline: Any, noising: Any, latents: Tensor, captions: Sequence[str], chance: torch.Generator, max_tokens: int
) -> tuple[Tensor, Tensor]:
    """Add noise to latents and return the prediction without noise, and (B,) the time steps.

    Args:
        pipeline: The pipeline.
        noising: Noise scheduler.
        latents: (B, c, h, h) scaled, without noise.
        captions: B to 2B captions; those after the B-th reuse the noisy latents.
        chance: Random generator; of two time steps the noisier is used.
        max_tokens: Maximum tokens of a caption.

    Returns:
        (number of captions, c, h, h) latents, and (B,) time steps.
    """
    noise = torch.randn(latents.shape, generator=chance).to(latents.device)
    times = torch.randint(0, noising.config.num_train_timesteps, (2, len(latents)), generator=chance)
    times = times.amax(0).to(latents.device)
    words = tokenize_captions(pipeline.tokenizer, list(captions), max_tokens)
    ids, mask = (each.to(latents.device) for each in words)
    text = pipeline.text_encoder(ids, attention_mask=mask).last_hidden_state
    noisy, num_more = noising.add_noise(latents, noise, times), len(captions) - len(latents)
    guessed = pipeline.transformer(
        torch.cat([noisy, noisy[:num_more]]),
        encoder_hidden_states=text,
        encoder_attention_mask=mask,
        timestep=torch.cat([times, times[:num_more]]),
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
    ).sample
    return guessed, times


@torch.no_grad()
def contact_sheet(
    pipeline: Any, assets: EmojiAssets, file: Path, *, size_px: int, num: int = 32, steps: int = 4
) -> list[str]:
    """Write pictures of held-out captions, eight a row, and return the captions in order.

    Args:
        pipeline: The pipeline.
        assets: The concepts of the captions.
        file: The picture to write.
        size_px: Side of each picture.
        num: Number of pictures, a multiple of eight.
        steps: Denoising steps.
    """
    scenes = [sample_scene(0, index, kind="posed", split="held_out") for index in range(num)]
    captions = [caption(scene, random.Random(index), style="plain") for index, scene in enumerate(scenes)]
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(
        captions,
        height=size_px,
        width=size_px,
        num_inference_steps=steps,
        guidance_scale=1.0,
        use_resolution_binning=False,  # PixArt's table of sizes starts at 256 px
        clean_caption=False,
        generator=[torch.Generator().manual_seed(index) for index in range(num)],
    ).images
    sheet = Image.new("RGB", (8 * size_px, num // 8 * size_px))
    for index, picture in enumerate(drawn):
        sheet.paste(picture, (index % 8 * size_px, index // 8 * size_px))
    sheet.save(file)
    return captions
