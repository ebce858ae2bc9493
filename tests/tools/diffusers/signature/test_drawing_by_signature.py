"""Pipelines that only their signature describes draw what they say they can: tiny folders with random weights."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mgem_agent.tools.diffusers.generator import DiffusersGenerator
from mgem_agent.tools.image_result import GenerationProgress, ImageResult

GIVEN = {
    "img-start": Image.linear_gradient("L").resize((64, 64)).convert("RGB"),
    "img-mask": Image.new("L", (64, 64), 255),
}


def flow() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler()


def qwen3(cls: Any, **changes: Any) -> Any:
    from transformers import Qwen3Config

    shape = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 128, "max_position_embeddings": 512,
    }  # fmt: skip
    return cls(Qwen3Config(**shape | changes)).eval()


def qwen_vl(hidden: int = 16) -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": hidden, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
            "num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": hidden,
        },
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def make_bria(parts: Any) -> Any:
    from diffusers import BriaPipeline, BriaTransformer2DModel

    return BriaPipeline(
        transformer=BriaTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8,
            num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=None, axes_dims_rope=[0, 4, 4],
        ),
        scheduler=flow(), vae=parts.autoencoder(shift_factor=0, scaling_factor=0.13),
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
        scheduler=flow(), vae=parts.flux_parts()["vae"], text_encoder=parts.t5_encoder(),
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
        vae=parts.make_klein().vae, text_encoder=qwen3(Qwen3Model), tokenizer=parts.qwen_tokenizer(), scheduler=flow(),
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
        scheduler=flow(), vae=parts.autoencoder(shift_factor=0.1, scaling_factor=0.4),
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
        scheduler=flow(), text_encoder=qwen_vl(), tokenizer=parts.qwen_tokenizer(),
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
        scheduler=flow(), vae=parts.autoencoder(), text_encoder=qwen_vl(), tokenizer=qwen_vl_processor(parts),
        text_encoder_2=parts.clip_encoder(), tokenizer_2=parts.clip_tokenizer(),
    )  # fmt: skip


def qwen_vl_processor(parts: Any) -> Any:
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    tokenizer = parts.qwen_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|image_pad|>", "<|video_pad|>"]})
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(), tokenizer=tokenizer, video_processor=Qwen2VLVideoProcessor()
    )


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
        scheduler=flow(), vae=parts.autoencoder(16, shift_factor=0.1, scaling_factor=0.4),
        text_encoder=qwen_vl(), tokenizer=parts.qwen_tokenizer(),
        text_processor=qwen_vl_processor(parts),
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
        scheduler=flow(), vae=vae, tokenizer=parts.qwen_tokenizer(),
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
        transformer=transformer, scheduler=flow(), vae=parts.autoencoder(shift_factor=0.1, scaling_factor=0.4),
        text_encoder=qwen3(Qwen3Model), tokenizer=parts.qwen_tokenizer(),
        siglip=Siglip2VisionModel(config).eval(),
        siglip_processor=Siglip2ImageProcessor(patch_size=16, max_num_patches=16),
    )  # fmt: skip


def qwen3_vl(parts: Any) -> tuple[Any, Any]:
    """A vision-language model, and its processor."""
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokenizer = parts.qwen_tokenizer()
    marks = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    image, video, start, end = tokenizer.convert_tokens_to_ids(marks)
    config = Qwen3VLConfig(
        text_config={
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 128, "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]},
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
            "deepstack_visual_indexes": [0], "num_position_embeddings": 16, "patch_size": 16,
        },
        image_token_id=image, video_token_id=video, vision_start_token_id=start, vision_end_token_id=end,
    )  # fmt: skip
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16, size={"shortest_edge": 1024, "longest_edge": 1 << 24}),
        tokenizer=tokenizer, video_processor=Qwen3VLVideoProcessor(), chat_template=tokenizer.chat_template,
    )  # fmt: skip
    return Qwen3VLForConditionalGeneration(config).eval(), processor


def make_qwen(parts: Any) -> Any:
    from diffusers import AutoencoderKLQwenImage21, QwenImage21Pipeline, QwenImage21Transformer2DModel

    text_encoder, processor = qwen3_vl(parts)
    return QwenImage21Pipeline(
        transformer=QwenImage21Transformer2DModel(
            num_layers=1, attention_head_dim=16, num_attention_heads=2, context_in_dim=16, axes_dims_rope=(4, 6, 6)
        ),
        vae=AutoencoderKLQwenImage21(base_dim=4, decoder_base_dim=4, num_res_blocks=1).eval(),
        text_encoder=text_encoder, processor=processor, scheduler=flow(),
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


@pytest.fixture
def generator(request: pytest.FixtureRequest, parts: SimpleNamespace, tmp_path: Path) -> DiffusersGenerator:
    torch.manual_seed(0)
    folder = parts.save_tiny(CASES[request.param][0](parts), tmp_path)
    return DiffusersGenerator.from_name(str(folder))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`FluxPosEmbed`:FutureWarning")
@pytest.mark.parametrize(("generator", "class_name"), [(name, name) for name in CASES], indirect=["generator"])
def test_a_class_without_a_line_of_its_own_draws_each_of_its_tasks(
    generator: DiffusersGenerator, class_name: str, ask: Any
) -> None:
    able = generator.capabilities
    for task in sorted(able.tasks):
        asked: dict[str, Any] = {"task": task, "options": CASES[class_name][1], "width": 64, "height": 64}
        if task != "text_to_image":
            asked["image"] = "img-start"
        if task == "inpaint":
            asked["mask"] = "img-mask"
        if able.negative_prompt:
            asked["negative_prompt"] = "rain"
        if able.guidance_scale:
            asked["guidance_scale"] = 3.0
        requests = [ask(**asked), ask(**asked), ask(**asked, seed=8)]
        events = list(generator.generate(requests, pictures=GIVEN))
        results = sorted((event for event in events if isinstance(event, ImageResult)), key=lambda each: each.index)
        assert [result.error for result in results] == [None] * 3
        first, again, other = (np.asarray(result.image, dtype=int) for result in results)
        same, different = (np.abs(first - each).max() for each in (again, other))
        assert different > 1 and (same <= 1 or same * 4 <= different)  # bfloat16 differs within a batch
        # Some draw in sizes of their own, which are then reported.
        told = {notice.argument for notice in results[0].notices}
        assert first.shape == (64, 64, 3) or {"height", "width"} <= told
        assert any(isinstance(event, GenerationProgress) for event in events) == able.progress
