"""Pipelines that only their signature describes draw what they say they can: tiny folders with random weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch


def make_bria(parts: Any) -> Any:
    from diffusers import BriaPipeline, BriaTransformer2DModel

    return BriaPipeline(
        transformer=BriaTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8,
            num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=None, axes_dims_rope=[0, 4, 4],
        ),
        scheduler=parts.flow(), vae=parts.autoencoder(shift_factor=0, scaling_factor=0.13),
        text_encoder=parts.t5_encoder(), tokenizer=parts.t5_tokenizer(),
    )  # fmt: skip


def make_chroma(parts: Any) -> Any:
    from diffusers import ChromaImg2ImgPipeline, ChromaTransformer2DModel

    return ChromaImg2ImgPipeline(
        transformer=ChromaTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=16, axes_dims_rope=[4, 4, 8], approximator_hidden_dim=16,
            approximator_layers=1, approximator_num_channels=16,
        ),
        scheduler=parts.flow(), vae=parts.flux_parts()["vae"], text_encoder=parts.t5_encoder(),
        tokenizer=parts.t5_tokenizer(),
    )  # fmt: skip


def make_ernie(parts: Any) -> Any:
    from diffusers import ErnieImagePipeline, ErnieImageTransformer2DModel
    from transformers import Qwen3Model

    return ErnieImagePipeline(
        transformer=ErnieImageTransformer2DModel(
            hidden_size=32, num_attention_heads=2, num_layers=1, ffn_hidden_size=32, in_channels=4, out_channels=4,
            text_in_dim=16, rope_axes_dim=(4, 4, 8),
        ),
        vae=parts.make_klein().vae, text_encoder=parts.qwen3(Qwen3Model), tokenizer=parts.qwen_tokenizer(),
        scheduler=parts.flow(),
    )  # fmt: skip


def make_fill(parts: Any) -> Any:
    from diffusers import FluxFillPipeline

    # Latents of noise and of the rest of the picture, and a mask of 2 x 2 pixels for each of 2 x 2 latents.
    return FluxFillPipeline(**parts.flux_parts(in_channels=48, out_channels=16))


def make_hidream(parts: Any) -> Any:
    from diffusers import HiDreamImagePipeline, HiDreamImageTransformer2DModel
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=128,
        max_position_embeddings=512,
    )  # fmt: skip
    clip = {"projection": True, "max_position_embeddings": 248}
    llama = parts.qwen_tokenizer()
    return HiDreamImagePipeline(
        transformer=HiDreamImageTransformer2DModel(
            patch_size=2, in_channels=4, out_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8,
            num_attention_heads=2, caption_channels=[16, 16], text_emb_dim=32, num_routed_experts=2,
            num_activated_experts=1, axes_dims_rope=(4, 2, 2), max_resolution=(32, 32), llama_layers=(0, 1),
        ),
        scheduler=parts.flow(), vae=parts.autoencoder(shift_factor=0.1, scaling_factor=0.4),
        text_encoder=parts.clip_encoder(**clip), tokenizer=parts.clip_tokenizer(),
        text_encoder_2=parts.clip_encoder(**clip), tokenizer_2=parts.clip_tokenizer(),
        text_encoder_3=parts.t5_encoder(), tokenizer_3=parts.t5_tokenizer(),
        text_encoder_4=LlamaForCausalLM(config).eval(), tokenizer_4=llama,
    )  # fmt: skip


def make_hunyuan(parts: Any) -> Any:
    from diffusers import AutoencoderKLHunyuanImage, HunyuanImagePipeline, HunyuanImageTransformer2DModel
    from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

    config = T5Config(d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2, vocab_size=384)
    return HunyuanImagePipeline(
        transformer=HunyuanImageTransformer2DModel(
            in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=1,
            num_single_layers=1, num_refiner_layers=1, patch_size=(1, 1), guidance_embeds=True, text_embed_dim=16,
            text_embed_2_dim=16, rope_axes_dim=(4, 4),
        ),
        vae=AutoencoderKLHunyuanImage(
            in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 32, 32, 32), layers_per_block=1,
            scaling_factor=0.48, spatial_compression_ratio=8, sample_size=128,
        ).eval(),
        scheduler=parts.flow(), text_encoder=parts.qwen_vl(), tokenizer=parts.qwen_tokenizer(),
        text_encoder_2=T5EncoderModel(config).eval(), tokenizer_2=ByT5Tokenizer(), guider=None, ocr_guider=None,
    )  # fmt: skip


def make_kandinsky(parts: Any) -> Any:
    from diffusers import Kandinsky5T2IPipeline, Kandinsky5Transformer3DModel

    return Kandinsky5T2IPipeline(
        transformer=Kandinsky5Transformer3DModel(
            in_visual_dim=4, in_text_dim=16, in_text_dim2=16, time_dim=16, out_visual_dim=4, patch_size=(1, 2, 2),
            model_dim=16, ff_dim=16, num_text_blocks=1, num_visual_blocks=1, axes_dims=(1, 1, 2), visual_cond=False,
            attention_type="regular",
        ),
        scheduler=parts.flow(), vae=parts.autoencoder(), text_encoder=parts.qwen_vl(),
        tokenizer=parts.qwen_vl_processor(),
        text_encoder_2=parts.clip_encoder(), tokenizer_2=parts.clip_tokenizer(),
    )  # fmt: skip


def make_klein_kv(parts: Any) -> Any:
    from diffusers import Flux2KleinKVPipeline

    made = parts.make_klein()
    return Flux2KleinKVPipeline(**made.components)


def make_longcat(parts: Any) -> Any:
    from diffusers import LongCatImagePipeline, LongCatImageTransformer2DModel

    return LongCatImagePipeline(
        transformer=LongCatImageTransformer2DModel(
            in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=[4, 4, 8],
        ),
        scheduler=parts.flow(), vae=parts.autoencoder(16, shift_factor=0.1, scaling_factor=0.4),
        text_encoder=parts.qwen_vl(), tokenizer=parts.qwen_tokenizer(),
        text_processor=parts.qwen_vl_processor(),
    )  # fmt: skip


def make_omnigen(parts: Any) -> Any:
    from diffusers import OmniGenPipeline, OmniGenTransformer2DModel

    vae = parts.autoencoder(  # positions are counted for one of 8 to 1
        block_out_channels=(8,) * 4, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    return OmniGenPipeline(
        transformer=OmniGenTransformer2DModel(
            hidden_size=16, num_attention_heads=4, num_key_value_heads=4, intermediate_size=16, num_layers=1,
            in_channels=4, time_step_dim=4, vocab_size=128, pad_token_id=0,
            rope_scaling={"long_factor": [1, 2], "short_factor": [1, 2]},
        ),
        scheduler=parts.flow(), vae=vae, tokenizer=parts.qwen_tokenizer(),
    )  # fmt: skip


def make_omni(parts: Any) -> Any:
    from diffusers import ZImageOmniPipeline, ZImageTransformer2DModel
    from transformers import Qwen3Model, Siglip2ImageProcessor, Siglip2VisionConfig, Siglip2VisionModel

    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
        siglip_feat_dim=16, axes_dims=[8, 4, 4], axes_lens=[1024, 64, 64],
    )  # fmt: skip
    with torch.no_grad():
        for name, weights in transformer.named_parameters():
            if name.endswith("pad_token"):
                weights.fill_(1.0)  # left uninitialised
    config = Siglip2VisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, patch_size=16, num_patches=16
    )
    return ZImageOmniPipeline(
        transformer=transformer, scheduler=parts.flow(), vae=parts.autoencoder(shift_factor=0.1, scaling_factor=0.4),
        text_encoder=parts.qwen3(Qwen3Model), tokenizer=parts.qwen_tokenizer(),
        siglip=Siglip2VisionModel(config).eval(),
        siglip_processor=Siglip2ImageProcessor(patch_size=16, max_num_patches=16),
    )  # fmt: skip


def make_qwen(parts: Any) -> Any:
    from diffusers import AutoencoderKLQwenImage21, QwenImage21Pipeline, QwenImage21Transformer2DModel

    text_encoder, processor = parts.qwen3_vl()
    return QwenImage21Pipeline(
        transformer=QwenImage21Transformer2DModel(
            num_layers=1, attention_head_dim=16, num_attention_heads=2, context_in_dim=16, axes_dims_rope=(4, 6, 6)
        ),
        vae=AutoencoderKLQwenImage21(base_dim=4, decoder_base_dim=4, num_res_blocks=1).eval(),
        text_encoder=text_encoder, processor=processor, scheduler=parts.flow(),
    )  # fmt: skip


SHORT: dict[str, Any] = {"max_sequence_length": 64}
# maker, and options that keep it short
CASES: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "BriaPipeline": (make_bria, SHORT),
    "ChromaImg2ImgPipeline": (make_chroma, SHORT),
    "ErnieImagePipeline": (make_ernie, {}),
    "Flux2KleinKVPipeline": (make_klein_kv, SHORT),
    "FluxFillPipeline": (make_fill, SHORT),
    "HiDreamImagePipeline": (make_hidream, SHORT),
    "HunyuanImagePipeline": (make_hunyuan, {}),
    "Kandinsky5T2IPipeline": (make_kandinsky, SHORT),
    "LongCatImagePipeline": (make_longcat, {"enable_prompt_rewrite": False}),
    "OmniGenPipeline": (make_omnigen, {}),
    "QwenImage21Pipeline": (make_qwen, {}),
    "ZImageOmniPipeline": (make_omni, SHORT),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`FluxPosEmbed`:FutureWarning")
@pytest.mark.parametrize("class_name", CASES)
def test_a_class_without_a_line_of_its_own_draws_each_of_its_tasks(class_name: str, draw_every_task: Any) -> None:
    draw_every_task(*CASES[class_name])
