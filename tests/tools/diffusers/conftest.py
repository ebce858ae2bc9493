"""Tiny diffusers pipelines of every family, with random weights and tokenizers made here, saved as folders."""

import string
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from mgem_agent.tools.diffusers.generator import DiffusersGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult

LETTERS = string.ascii_lowercase + string.digits + string.punctuation


def clip_tokenizer() -> Any:
    """A CLIP tokenizer of single letters: a word of n letters is n tokens."""
    from transformers import CLIPTokenizer

    pieces = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[], model_max_length=77)


def t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -2.0) for letter in "▁" + LETTERS)]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=512)


def gemma_tokenizer() -> Any:
    from transformers import GemmaTokenizer

    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *("▁" + LETTERS + string.ascii_uppercase + "\n")]
    return GemmaTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)}, merges=[], model_max_length=4096
    )


def qwen_tokenizer(**settings: Any) -> Any:
    from transformers import Qwen2Tokenizer

    pieces = ["<|endoftext|>", *LETTERS, *string.ascii_uppercase, "Ġ", "Ċ"]
    tokenizer = Qwen2Tokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)}, merges=[], model_max_length=4096, **settings
    )
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    return tokenizer


def clip_encoder(projection: bool = False, **changes: Any) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    size = len(LETTERS) * 2 + 2
    config = CLIPTextConfig(
        **{
            "vocab_size": size, "bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": size - 1,
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
            "projection_dim": 16, **changes,
        }
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def t5_encoder(width: int = 16) -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=len(LETTERS) + 4, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return T5EncoderModel(config).eval()


def autoencoder(latent_channels: int = 4, **changes: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        **{
            "block_out_channels": (8, 8), "latent_channels": latent_channels, "norm_num_groups": 4,
            "layers_per_block": 1, "sample_size": 32,
            "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2, **changes,
        }
    ).eval()  # fmt: skip


def unet(**changes: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        **{
            "block_out_channels": (8, 16), "layers_per_block": 1, "sample_size": 32, "norm_num_groups": 4,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "attention_head_dim": 4,
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": 16, **changes,
        }
    ).eval()  # fmt: skip


def image_encoder() -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32,
        patch_size=16, projection_dim=16,
    )  # fmt: skip
    encoder = CLIPVisionModelWithProjection(config).eval()
    with torch.no_grad():
        for weights in encoder.parameters():
            weights.mul_(10)  # or all pictures look alike to it
    return encoder


def make_sd() -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPImageProcessor

    return StableDiffusionPipeline(
        vae=autoencoder(), text_encoder=clip_encoder(), tokenizer=clip_tokenizer(), unet=unet(),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1), safety_checker=None, requires_safety_checker=False,
        feature_extractor=CLIPImageProcessor(size=32, crop_size=32), image_encoder=image_encoder(),
    )  # fmt: skip


def make_sdxl() -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    return StableDiffusionXLPipeline(
        vae=autoencoder(), text_encoder=clip_encoder(), text_encoder_2=clip_encoder(projection=True),
        tokenizer=clip_tokenizer(), tokenizer_2=clip_tokenizer(), scheduler=EulerDiscreteScheduler(),
        unet=unet(
            cross_attention_dim=32, addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=16 + 6 * 8, transformer_layers_per_block=1,
        ),
    )  # fmt: skip


def make_sd3() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=32, patch_size=2, in_channels=16, out_channels=16, num_layers=1, attention_head_dim=8,
            num_attention_heads=2, joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32,
            pos_embed_max_size=96,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=autoencoder(16, shift_factor=0.06, scaling_factor=1.5),
        text_encoder=clip_encoder(projection=True), tokenizer=clip_tokenizer(),
        text_encoder_2=clip_encoder(projection=True), tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5_encoder(32), tokenizer_3=t5_tokenizer(),
    )  # fmt: skip


def flux_parts(**changes: Any) -> dict[str, Any]:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel

    return {
        "transformer": FluxTransformer2DModel(
            **{
                "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
                "num_attention_heads": 2, "joint_attention_dim": 16, "pooled_projection_dim": 16,
                "axes_dims_rope": (4, 4, 8), "guidance_embeds": True, **changes,
            }
        ),
        "scheduler": FlowMatchEulerDiscreteScheduler(),
        "vae": autoencoder(shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False, use_post_quant_conv=False),
        "text_encoder": clip_encoder(), "tokenizer": clip_tokenizer(),
        "text_encoder_2": t5_encoder(), "tokenizer_2": t5_tokenizer(),
    }  # fmt: skip


def make_flux() -> Any:
    from diffusers import FluxPipeline

    return FluxPipeline(**flux_parts())


def make_schnell() -> Any:
    from diffusers import FluxPipeline

    return FluxPipeline(**flux_parts(guidance_embeds=False))


def make_kontext() -> Any:
    from diffusers import FluxKontextPipeline

    return FluxKontextPipeline(**flux_parts())


def make_klein() -> Any:
    from diffusers import (
        AutoencoderKLFlux2,
        FlowMatchEulerDiscreteScheduler,
        Flux2KleinPipeline,
        Flux2Transformer2DModel,
    )
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        hidden_size=8, intermediate_size=8, num_hidden_layers=28, num_attention_heads=1, num_key_value_heads=1,
        head_dim=8, vocab_size=128, max_position_embeddings=512,
    )  # fmt: skip
    return Flux2KleinPipeline(
        transformer=Flux2Transformer2DModel(
            patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=1, joint_attention_dim=24, timestep_guidance_channels=16,
            axes_dims_rope=[4, 4, 4, 4], guidance_embeds=False,
        ),
        text_encoder=Qwen3ForCausalLM(config).eval(), tokenizer=qwen_tokenizer(),
        vae=AutoencoderKLFlux2(
            sample_size=32, down_block_types=("DownEncoderBlock2D",), up_block_types=("UpDecoderBlock2D",),
            block_out_channels=(4,), layers_per_block=1, latent_channels=1, norm_num_groups=1,
            use_quant_conv=False, use_post_quant_conv=False,
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(), is_distilled=False,
    )  # fmt: skip


def make_sana() -> Any:
    from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SanaPipeline, SanaTransformer2DModel
    from transformers import Gemma2Config, Gemma2Model

    config = Gemma2Config(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
        head_dim=8, vocab_size=128, max_position_embeddings=4096,
    )  # fmt: skip
    return SanaPipeline(
        transformer=SanaTransformer2DModel(
            patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=4,
            num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=8,
            sample_size=32,
        ),
        vae=AutoencoderDC(
            in_channels=3, latent_channels=4, attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
            downsample_block_type="conv", upsample_block_type="interpolate",
            decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41407,
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder=Gemma2Model(config).eval(), tokenizer=gemma_tokenizer(),
    )  # fmt: skip


def make_pixart() -> Any:
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    return PixArtSigmaPipeline(
        transformer=PixArtTransformer2DModel(
            sample_size=8, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4,
            out_channels=8, cross_attention_dim=16, caption_channels=16, norm_type="ada_norm_single",
            use_additional_conditions=False,
        ).eval(),
        vae=autoencoder(), scheduler=DPMSolverMultistepScheduler(),
        text_encoder=t5_encoder(), tokenizer=t5_tokenizer(),
    )  # fmt: skip


def make_wuerstchen() -> Any:
    from diffusers import DDPMWuerstchenScheduler, WuerstchenCombinedPipeline
    from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel, WuerstchenDiffNeXt, WuerstchenPrior

    return WuerstchenCombinedPipeline(
        tokenizer=clip_tokenizer(), text_encoder=clip_encoder(), scheduler=DDPMWuerstchenScheduler(),
        decoder=WuerstchenDiffNeXt(
            c_cond=16, c_hidden=[16], nhead=[2], blocks=[1], level_config=["CTA"], clip_embd=16, inject_effnet=[True],
            effnet_embd=2,
        ).eval(),
        vqgan=PaellaVQModel(bottleneck_blocks=1, num_vq_embeddings=2, embed_dim=8).eval(),
        prior_tokenizer=clip_tokenizer(), prior_text_encoder=clip_encoder(),
        prior_prior=WuerstchenPrior(c_in=2, c=8, depth=1, c_cond=16, c_r=8, nhead=2).eval(),
        prior_scheduler=DDPMWuerstchenScheduler(),
    )  # fmt: skip


def make_cascade() -> Any:
    from diffusers import DDPMWuerstchenScheduler, StableCascadeCombinedPipeline
    from diffusers.models.unets.unet_stable_cascade import StableCascadeUNet
    from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel

    shape = {
        "conditioning_dim": 16, "block_out_channels": (16, 32), "num_attention_heads": (2, 2),
        "down_num_layers_per_block": (1, 1), "up_num_layers_per_block": (1, 1), "clip_text_pooled_in_channels": 16,
        "timestep_ratio_embedding_dim": 8,
    }  # fmt: skip
    return StableCascadeCombinedPipeline(
        tokenizer=clip_tokenizer(), text_encoder=clip_encoder(projection=True), scheduler=DDPMWuerstchenScheduler(),
        decoder=StableCascadeUNet(in_channels=4, out_channels=4, effnet_in_channels=4, **shape).eval(),
        vqgan=PaellaVQModel(bottleneck_blocks=1, num_vq_embeddings=2, embed_dim=8).eval(),
        prior_prior=StableCascadeUNet(
            in_channels=4, out_channels=4, clip_text_in_channels=16, clip_image_in_channels=16,
            switch_level=(False,), **shape,
        ).eval(),
        prior_text_encoder=clip_encoder(projection=True), prior_tokenizer=clip_tokenizer(),
        prior_scheduler=DDPMWuerstchenScheduler(), prior_image_encoder=None, prior_feature_extractor=None,
    )  # fmt: skip


MAKERS: dict[str, Callable[[], Any]] = {
    "cascade": make_cascade, "flux": make_flux, "klein": make_klein, "kontext": make_kontext, "pixart": make_pixart,
    "sana": make_sana, "schnell": make_schnell, "sd": make_sd, "sd3": make_sd3, "sdxl": make_sdxl,
    "wuerstchen": make_wuerstchen,
}  # fmt: skip


def fill_zeros(part: torch.nn.Module) -> None:
    """Put random weights where training starts from none, so that every input reaches the picture."""
    for weights in part.parameters():
        if not weights.any():
            torch.nn.init.normal_(weights, std=0.3)


def save_tiny(pipeline: Any, folder: Path) -> Path:
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            fill_zeros(part.eval())
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Save a tiny pipeline of a family, once for all tests, and give its folder."""
    folders: dict[str, Path] = {}

    def save(family: str) -> Path:
        if family not in folders:
            torch.manual_seed(0)
            folders[family] = save_tiny(MAKERS[family](), tmp_path_factory.mktemp(family))
        return folders[family]

    return save


@pytest.fixture(scope="session")
def parts() -> SimpleNamespace:
    """Makers of tiny parts, for pipelines that one test alone needs."""
    makers = (autoencoder, clip_encoder, clip_tokenizer, flux_parts, make_klein, qwen_tokenizer, save_tiny, t5_encoder,
              t5_tokenizer)  # fmt: skip
    return SimpleNamespace(**{maker.__name__: maker for maker in makers})


@pytest.fixture(scope="session", autouse=True)
def diffusers_imported() -> None:
    """Import every pipeline once: some warn of deprecations within torch when they are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers.pipelines import auto_pipeline

    assert auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING


@pytest.fixture(autouse=True)
def warnings_within_diffusers() -> None:
    """Let pass what schedulers of diffusers warn of on NumPy 2; the worker's thread would make an error of it."""
    warnings.filterwarnings("ignore", message="__array__ implementation doesn't accept a copy keyword")


@pytest.fixture(scope="session")
def make_generator(tiny_pipeline: Callable[[str], Path]) -> Callable[..., DiffusersGenerator]:
    """Make a generator over a tiny pipeline; one of each kind for all tests, for loading takes the time."""
    made: dict[str, DiffusersGenerator] = {}

    def make(family: str, *, fresh: bool = False, **options: object) -> DiffusersGenerator:
        exact: dict[str, object] = {"dtype": "float32"}  # rounding in a batch then changes values by one at most
        if fresh or options:
            return DiffusersGenerator.from_name(str(tiny_pipeline(family)), **{**exact, **options})
        if family not in made:
            made[family] = DiffusersGenerator.from_name(str(tiny_pipeline(family)), **exact)
        return made[family]

    return make


Draw = Callable[..., list[ImageResult]]


@pytest.fixture(scope="session")
def draw() -> Draw:
    """Draw requests and give the results in their order."""

    def run(
        generator: DiffusersGenerator,
        requests: Sequence[ImageRequest],
        pictures: Mapping[str, Image.Image] | None = None,
        **settings: Any,
    ) -> list[ImageResult]:
        events = generator.generate(requests, pictures=pictures, **settings)
        results = [event for event in events if isinstance(event, ImageResult)]
        print(*(repr(result.error) for result in results if result.error))  # shown where a test fails
        return sorted(results, key=lambda result: result.index)

    return run


# What keeps tiny models from working as long as real ones: resolution bins of a million pixels, hundreds of tokens.
SHORT: dict[str, dict[str, Any]] = {
    "cascade": {"decoder_num_inference_steps": 1},
    "flux": {"max_sequence_length": 64},
    "klein": {"max_sequence_length": 64},
    "kontext": {"max_sequence_length": 64},
    "pixart": {"max_sequence_length": 64, "use_resolution_binning": False},
    "sana": {"max_sequence_length": 64, "use_resolution_binning": False},
    "schnell": {"max_sequence_length": 64},
    "sd3": {"max_sequence_length": 64},
    "wuerstchen": {"decoder_num_inference_steps": 1},
}


@pytest.fixture(scope="session")
def ask() -> Callable[..., ImageRequest]:
    """Make a small request that a family can draw in moments."""

    def make(family: str = "sdxl", **changes: Any) -> ImageRequest:
        side = 128 if family in ("cascade", "wuerstchen") else 32
        options = SHORT.get(family, {}) | changes.pop("options", {})
        given = {"prompt": "a red fox", "width": side, "height": side, "seed": 7, "num_inference_steps": 2, **changes}
        return ImageRequest(**given, options=options)

    return make
