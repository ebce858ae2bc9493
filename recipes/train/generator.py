"""Pre-training of a small latent diffusion model that draws scenes.

    python -m mgem_agent.recipes.train.generator FOLDER autoencoder=FOLDER captions=FOLDER [key=value …]

A diffusion transformer (PixArt-α; Chen et al., 2023) learns to take the noise from latents of an autoencoder that is
trained already, and a text encoder that knows already what captions ask for learns along. It takes large patches and
predicts the latents themselves, which need fewer dimensions than their noise (Li and He, 2025), on a cosine schedule.
Steps are weighted by their signal-to-noise ratio (Hang et al., 2023) but never to nothing, and noisy steps come more
often than others: there it is decided what a thing is, and what goes wrong there stays wrong. A tenth of the captions
are left empty for classifier-free guidance. The result is an ordinary `PixArtAlphaPipeline` folder: nothing of this
package is needed to read it.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
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

from mgem_agent.errors import InputError
from mgem_agent.recipes.data.emoji import EmojiAssets
from mgem_agent.recipes.data.scene import sample_scene
from mgem_agent.recipes.data.scene_captions import caption
from mgem_agent.recipes.train.caption_encoder import (
    drawn_caption,
    fact_loss,
    fact_sizes,
    scene_slots,
    tokenize_captions,
)
from mgem_agent.recipes.train.latent_cache import LatentCache
from mgem_agent.recipes.train.pretraining import PretrainingConfig, PretrainingRun, run_recipe
from mgem_agent.recipes.train.scene_pixels import scene_pixels

__all__ = [
    "GeneratorConfig",
    "begin_to_draw",
    "begin_to_read",
    "captions_to_read",
    "contact_sheet",
    "denoising_loss",
    "make_pipeline",
    "scene_captions",
    "scene_latents",
    "table_scores",
    "train_generator",
]

_HEAD = 32
"""Width of a head of attention."""

_LOUDER = 6.0
"""Times that what facts look like is larger than what the last MLP was told, when it begins to draw."""

_RIDGE = 0.5
"""What the regression adds to the number of pictures that each fact is in."""

_FAR = 1_000_000_000
"""Between the numbers of scenes of which one with two things is taken."""

SCHEDULE: dict[str, Any] = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"}


class GeneratorConfig(PretrainingConfig):
    """How the generator is trained.

    Attributes:
        autoencoder: Folder of the trained autoencoder.
        captions: Folder of the recipe `caption_encoder`.
        num_scenes: Scenes that it learns from, each again and again in other words.
        image_px: Side of what it draws.
        patch_size: Side of a token's patch of latents: one patch is the whole picture, which is quick and has no seams.
        width: Of the transformer.
        num_layers: Of the transformer. Few learn quicker than many.
        num_reading_steps: First steps, in which it learns to read alone; 0 in a run that goes on from another.
        table_speed: Factor of the learning rate for what the table's facts look like, each of which is rarely drawn.
        max_tokens: Longest caption that is learned from.
        fact_weight: Of the error in reading, once it learns to draw.
        no_caption: Share of captions that are left empty.
        min_timestep: Of 1000, the least that is learned from. A run with 800, and one of all that goes on from it,
            learn first what a caption's things look like, and then to draw them well.
        snr_gamma: Signal-to-noise ratio above which a step weighs no more.
        least_snr: Is added to it, so that the noisiest steps weigh something.
    """

    num_steps: int = 20_000
    batch_size: int = 32
    learning_rate: float = 2e-4
    ema_decay: float = 0.998
    autoencoder: str
    captions: str
    num_scenes: int = Field(default=20_000, ge=1)
    image_px: int = Field(default=128, ge=16, multiple_of=8)
    patch_size: int = Field(default=32, ge=1)
    width: int = Field(default=640, ge=32, multiple_of=32)
    num_layers: int = Field(default=1, ge=1)
    num_reading_steps: int = Field(default=2_000, ge=0)
    table_speed: float = Field(default=20.0, gt=0)
    max_tokens: int = Field(default=48, ge=8, le=120)
    fact_weight: float = Field(default=0.1, ge=0)
    no_caption: float = Field(default=0.1, ge=0, lt=1)
    min_timestep: int = Field(default=0, ge=0, lt=1000)
    snr_gamma: float = Field(default=5.0, gt=0)
    least_snr: float = Field(default=1.0, ge=0)


def make_pipeline(config: GeneratorConfig) -> Any:
    """Return the `PixArtAlphaPipeline` around the trained autoencoder and text encoder, its transformer untrained."""
    autoencoder: Any = AutoencoderTiny.from_pretrained(config.autoencoder).requires_grad_(False).eval()
    text_encoder: Any = CLIPTextModel.from_pretrained(Path(config.captions) / "text_encoder")
    tokenizer: Any = CLIPTokenizer.from_pretrained(Path(config.captions) / "tokenizer")
    torch.manual_seed(config.seed)
    transformer: Any = PixArtTransformer2DModel(
        num_attention_heads=config.width // _HEAD,
        attention_head_dim=_HEAD,
        in_channels=autoencoder.config.latent_channels,
        out_channels=autoencoder.config.latent_channels,
        num_layers=config.num_layers,
        cross_attention_dim=config.width,
        caption_channels=text_encoder.config.hidden_size,
        sample_size=config.image_px // 2 ** (len(autoencoder.config.encoder_block_out_channels) - 1),
        patch_size=config.patch_size,
        use_additional_conditions=False,
    )
    transformer.set_attn_processor(AttnProcessor())  # the quickest on few tokens
    for block in transformer.transformer_blocks:
        nn.init.ones_(block.scale_shift_table[5])  # what the MLP says is heard from the start
    return PixArtAlphaPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=autoencoder,
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(timestep_spacing="trailing", steps_offset=1, **SCHEDULE),
    )


def scene_captions(step: int, config: GeneratorConfig) -> tuple[list[int], list[str], Tensor]:
    """Return which scenes a step draws, their captions, worded anew each time, and (B, 4) the facts in these.

    Some captions are left empty, and have no facts.
    """
    indices, captions, facts = [], [], []
    for number in range(step * config.batch_size, (step + 1) * config.batch_size):
        index = number % config.num_scenes
        chance = random.Random(f"{config.seed}/{number}")
        scene = sample_scene(config.seed, index, kind="posed")
        words = drawn_caption(scene, chance)
        is_empty = chance.random() < config.no_caption
        indices.append(index)
        captions.append("" if is_empty else words)
        facts.append(fact_sizes() if is_empty else scene_slots(scene))
    return indices, captions, torch.tensor(facts)


def captions_to_read(step: int, config: GeneratorConfig) -> tuple[list[str], Tensor]:
    """Return captions of scenes that are never drawn, and (B, 4) the facts in them.

    No two steps have the same, so that pairs of things are read and not remembered; every other scene has two things.
    Once it learns to draw they are a quarter as many, so that it does not forget.
    """
    captions, facts = [], []
    num = config.batch_size if step < config.num_reading_steps else config.batch_size // 4
    for number in range(step * config.batch_size, step * config.batch_size + num):
        scene = sample_scene(config.seed + 1, number, kind="posed")
        tries = 1
        while number % 2 and len(scene.objects) < 2:
            scene = sample_scene(config.seed + 1, number + _FAR * tries, kind="posed")
            tries += 1
        captions.append(drawn_caption(scene, random.Random(f"{config.seed + 1}/{number}")))
        facts.append(scene_slots(scene))
    return captions, torch.tensor(facts, dtype=torch.long).view(-1, len(fact_sizes()))


def scene_latents(pipeline: Any, config: GeneratorConfig, assets: EmojiAssets, folder: Path) -> LatentCache:
    """Return the scaled latents of the scenes, which are drawn and encoded when they are first needed."""

    @torch.no_grad()
    def encode(indices: Sequence[int]) -> Tensor:
        scenes = [sample_scene(config.seed, index, kind="posed") for index in indices]
        pixels = scene_pixels(scenes, assets, config.image_px).to(pipeline.vae.device)
        latents: Tensor = pipeline.vae.encode(pixels).latents
        return latents * pipeline.vae.config.scaling_factor

    sizes = pipeline.transformer.config
    shape = (sizes.in_channels, sizes.sample_size, sizes.sample_size)
    return LatentCache(folder / "latents.npy", config.num_scenes, shape, encode)


def train_generator(folder: str | Path, config: GeneratorConfig, assets: EmojiAssets) -> Path:
    """Train the generator, from where the folder's last checkpoint stands, and write it for diffusers.

    Returns:
        The folder that `AutoPipelineForText2Image.from_pretrained` reads.
    """
    folder = Path(folder)
    pipeline = make_pipeline(config)
    model = nn.ModuleDict({"transformer": pipeline.transformer, "text": pipeline.text_encoder})
    table = pipeline.transformer.transformer_blocks[-1].ff.net[2].weight
    folder.mkdir(parents=True, exist_ok=True)
    scenes = scene_latents(pipeline, config, assets, folder)
    if config.start_from is None:
        begin_to_read(pipeline.transformer, scenes.latents(range(min(config.num_scenes, 4 * config.width))))
    run = PretrainingRun(folder, model, config, {table: config.table_speed})
    pipeline.to(run.device)
    noising: Any = DDPMScheduler(**SCHEDULE)
    for step in run.steps():
        if step and step == config.num_reading_steps:
            begin_to_draw(pipeline, noising, scenes, config)
        indices, captions, facts = scene_captions(step, config)
        latents = scenes.latents(indices).to(run.device)
        more, their_facts = captions_to_read(step, config)
        with table_scores(pipeline.transformer) as scores:
            wrong = denoising_loss(pipeline, noising, latents, captions, run.generator(step), config, read=more)
        facts = torch.cat([facts, their_facts])
        facts = facts.repeat_interleave(len(scores[0][0]) // len(facts), 0)  # for each token
        misread, right = fact_loss(scores[0], facts.to(run.device))
        loss = misread if step < config.num_reading_steps else wrong + config.fact_weight * misread
        run.update(loss, wrong=wrong.item(), right=right)
    with run.averaged_weights():
        pipeline.save_pretrained(folder / "pipeline")
        contact_sheet(pipeline, assets, folder / "contact_sheet.png", size_px=config.image_px)
    return folder / "pipeline"


@torch.no_grad()
def begin_to_read(transformer: Any, latents: Tensor) -> None:
    """Let the untrained transformer write principal components of latents, and read the caption alone.

    Nearly all of what latents are is in a sixth of their dimensions, and almost nothing of a picture is seen in noise.

    Args:
        transformer: Its last layer gets the components, its first zeros.
        latents: (N, c, h, h) scaled; more than the width, or some components stay random.
    """
    patches = _patches(transformer, latents)
    num = min(*patches.shape, transformer.proj_out.in_features)
    _, lengths, components = torch.pca_lowrank(patches, num)
    scale = lengths.square().mean().sqrt() / len(patches) ** 0.5
    transformer.proj_out.weight[:, :num] = components * scale
    transformer.proj_out.bias.copy_(patches.mean(0))
    transformer.pos_embed.proj.weight.zero_()


@torch.no_grad()
def begin_to_draw(pipeline: Any, noising: Any, scenes: LatentCache, config: GeneratorConfig) -> None:
    """Let each fact of the table say what it looks like, as ridge regression from facts to latents has it.

    A picture is nearly the sum of what its facts look like, and a thing is drawn once in hundreds of pictures: gradient
    descent takes hours to come to where this begins, knowing all the while hardly more of a thing than its colour.
    """
    transformer, device = pipeline.transformer, pipeline.device
    table, last = transformer.transformer_blocks[-1].ff.net[2], transformer.proj_out
    table.weight.zero_()
    table.bias.zero_()
    transformer.pos_embed.proj.weight.zero_()
    times: list[Tensor] = []
    read: list[Tensor] = []
    said: list[Tensor] = []
    hooks = (
        transformer.adaln_single.register_forward_hook(lambda _module, _inputs, output: times.append(output[1])),
        table.register_forward_pre_hook(lambda _module, inputs: read.append(inputs[0].flatten(0, 1))),
        transformer.norm_out.register_forward_pre_hook(lambda _module, inputs: said.append(inputs[0].flatten(0, 1))),
    )
    wanted: list[Tensor] = []
    scaled = last.weight / last.weight.square().sum(0)
    always = config.model_copy(update={"no_caption": 0.0})
    try:
        for step in range(math.ceil(config.num_scenes / config.batch_size)):
            indices, captions, _ = scene_captions(step, always)
            latents = scenes.latents(indices).to(device)
            denoising_loss(pipeline, noising, latents, captions, torch.Generator().manual_seed(step), config)
            wanted.append((_patches(transformer, latents) - last.bias) @ scaled)
    finally:
        for hook in hooks:
            hook.remove()
    num = sum(fact_sizes())
    facts, before = torch.cat(read)[:, :num].double(), torch.cat(said).double()
    missing = _LOUDER * before.square().mean().sqrt() * torch.cat(wanted) - before
    strength = facts.amax(0).clamp(min=1)  # of each fact where it is said; about nothing, of one that never is
    facts = facts / strength
    middle, offset = facts.mean(0), missing.mean(0)
    facts = facts - middle
    gram = facts.T @ facts + _RIDGE * torch.eye(num, dtype=facts.dtype, device=device)
    rows = torch.linalg.solve(gram, facts.T @ (missing - offset))
    table.weight[:, :num] = (rows.T / strength).to(table.weight)
    table.bias.copy_(offset - middle @ rows)
    transformer.scale_shift_table.copy_(-torch.cat(times).mean(0))  # so that what is said is written as it is


def _patches(transformer: Any, latents: Tensor) -> Tensor:
    """Return latents (N, c, h, h) as the transformer's last layer writes them, (N · tokens, p · p · c)."""
    size = transformer.config.patch_size
    return latents.unflatten(3, (-1, size)).unflatten(2, (-1, size)).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(0, 2)


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
    units = transformer.transformer_blocks[-1].ff.net[0].proj
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


def denoising_loss(
    pipeline: Any,
    noising: Any,
    latents: Tensor,
    captions: list[str],
    chance: torch.Generator,
    config: GeneratorConfig,
    read: Sequence[str] = (),
) -> Tensor:
    """Return () the weighted error of the latents that are guessed at one random time for each picture.

    Args:
        pipeline: What is trained.
        noising: The schedule of noise.
        latents: (B, c, h, h) scaled, as the autoencoder makes them.
        captions: B of them.
        chance: Source of times and noise.
        config: Lengths and weights.
        read: At most B captions that are read too, beside the same noise, and whose pictures do not matter.
    """
    noise = torch.randn(latents.shape, generator=chance).to(latents.device)
    times = torch.randint(config.min_timestep, noising.config.num_train_timesteps, (2, len(latents)), generator=chance)
    times = times.amax(0).to(latents.device)
    words = tokenize_captions(pipeline.tokenizer, [*captions, *read], config.max_tokens)
    ids, mask = (each.to(latents.device) for each in words)
    text = pipeline.text_encoder(ids, attention_mask=mask).last_hidden_state
    noisy = noising.add_noise(latents, noise, times)
    guessed = pipeline.transformer(
        torch.cat([noisy, noisy[: len(read)]]),
        encoder_hidden_states=text,
        encoder_attention_mask=mask,
        timestep=torch.cat([times, times[: len(read)]]),
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
    ).sample
    wrong = (guessed[: len(latents)] - latents).square().mean((1, 2, 3))
    return (wrong * (compute_snr(noising, times).clamp(max=config.snr_gamma) + config.least_snr)).mean()


@torch.no_grad()
def contact_sheet(
    pipeline: Any, assets: EmojiAssets, file: Path, *, size_px: int, num: int = 32, steps: int = 16
) -> list[str]:
    """Write pictures of held-out captions, eight a row, and return the captions in their order.

    Args:
        pipeline: What draws.
        assets: Where the captions' concepts come from.
        file: The picture that is written.
        size_px: Side of each picture.
        num: How many, a multiple of eight.
        steps: Steps of denoising.
    """
    scenes = [sample_scene(0, index, kind="posed", split="held_out") for index in range(num)]
    captions = [caption(scene, random.Random(index), style="plain") for index, scene in enumerate(scenes)]
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(
        captions,
        height=size_px,
        width=size_px,
        num_inference_steps=steps,
        guidance_scale=3.0,
        use_resolution_binning=False,  # that is for the large sizes that PixArt was trained for
        clean_caption=False,
        generator=[torch.Generator().manual_seed(index) for index in range(num)],
    ).images
    sheet = Image.new("RGB", (8 * size_px, num // 8 * size_px))
    for index, picture in enumerate(drawn):
        sheet.paste(picture, (index % 8 * size_px, index // 8 * size_px))
    sheet.save(file)
    return captions


if __name__ == "__main__":
    run_recipe(
        sys.argv[1:], GeneratorConfig, lambda folder, config: train_generator(folder, config, EmojiAssets.open())
    )
