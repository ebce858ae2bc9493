"""Pipelines with a language model, a processor or a safety checker of their own draw: tiny folders, random weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mgem_agent.errors import GeneratorUnavailableError
from mgem_agent.tools.diffusers import signature
from mgem_agent.tools.diffusers.families import describe_class


def wan(**changes: Any) -> Any:
    """An autoencoder for video, of 8 pixels to 1."""
    from diffusers import AutoencoderKLWan

    shape = {
        "base_dim": 4, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
    }  # fmt: skip
    return AutoencoderKLWan(**shape | changes).eval()


def make_bria_fibo(parts: Any) -> Any:
    from diffusers import BriaFiboPipeline, BriaFiboTransformer2DModel
    from transformers import SmolLM3Config, SmolLM3ForCausalLM

    config = SmolLM3Config(  # the pipeline knows the token 128000
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=128_001, pad_token_id=0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return BriaFiboPipeline(
        transformer=BriaFiboTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8,
            num_attention_heads=2, joint_attention_dim=32, text_encoder_dim=16, pooled_projection_dim=None,
            axes_dims_rope=[0, 4, 4],
        ),
        scheduler=parts.flow(), vae=wan(patch_size=2, in_channels=12, out_channels=12, scale_factor_spatial=16),
        text_encoder=SmolLM3ForCausalLM(config).eval(), tokenizer=parts.qwen_tokenizer(),
    )  # fmt: skip


def make_cosmos(parts: Any) -> Any:
    from diffusers import Cosmos2TextToImagePipeline, CosmosTransformer3DModel

    pipeline = Cosmos2TextToImagePipeline(
        transformer=CosmosTransformer3DModel(
            in_channels=16, out_channels=16, num_attention_heads=2, attention_head_dim=16, num_layers=1, mlp_ratio=1,
            text_embed_dim=16, adaln_lora_dim=4, max_size=(4, 32, 32), patch_size=(1, 2, 2), rope_scale=(2.0, 1.0, 1.0),
            concat_padding_mask=True,
        ),
        scheduler=parts.flow(use_karras_sigmas=True), vae=wan(), text_encoder=parts.t5_encoder(),
        tokenizer=parts.t5_tokenizer(),
    )  # fmt: skip
    pipeline.register_modules(safety_checker=None)  # folders have none: the pipeline makes it
    return pipeline


def make_glm(parts: Any) -> Any:
    from diffusers import GlmImagePipeline, GlmImageTransformer2DModel
    from transformers import (
        ByT5Tokenizer,
        GlmImageConfig,
        GlmImageForConditionalGeneration,
        GlmImageImageProcessor,
        GlmImageProcessor,
        T5Config,
        T5EncoderModel,
    )

    marks = {"image_token": "<|image|>", "grid_bos_token": "<sop>", "grid_eos_token": "<eop>"}
    tokenizer = parts.qwen_tokenizer(model_specific_special_tokens=marks, bos_token="<|dit|>")
    template = (
        "{% for message in messages %}{% for part in message.content %}"
        "{% if part.type == 'image' %}<|image|>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
    )
    first = len(tokenizer)
    config = GlmImageConfig(
        text_config={
            "vocab_size": first + 8, "vision_vocab_size": 64, "hidden_size": 16, "intermediate_size": 16,
            "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0,
            "max_position_embeddings": 512, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
            "mrope_section": [2, 1, 1]}, "eos_token_id": None,
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "num_heads": 2, "image_size": 64, "patch_size": 16, "intermediate_size": 16,
        },
        vq_config={"embed_dim": 16, "num_embeddings": 60, "latent_channels": 16},
        image_token_id=tokenizer.convert_tokens_to_ids("<|image|>"), image_start_token_id=60, image_end_token_id=61,
    )  # fmt: skip
    t5 = T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=384)
    return GlmImagePipeline(
        transformer=GlmImageTransformer2DModel(
            patch_size=2, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
            text_embed_dim=16, time_embed_dim=16, condition_dim=8, prior_vq_quantizer_codebook_size=64,
        ),
        scheduler=parts.flow(),
        vae=parts.autoencoder(
            block_out_channels=(8,) * 4, down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
        ),
        text_encoder=T5EncoderModel(t5).eval(), tokenizer=ByT5Tokenizer(),
        vision_language_encoder=GlmImageForConditionalGeneration(config).eval(),
        processor=GlmImageProcessor(
            image_processor=GlmImageImageProcessor(
                patch_size=16, temporal_patch_size=1, merge_size=1, min_pixels=1024, max_pixels=1 << 20
            ),
            tokenizer=tokenizer, chat_template=template,
        ),
    )  # fmt: skip


def joy_parts(parts: Any, transformer: type[Any]) -> dict[str, Any]:
    text_encoder, processor = parts.qwen3_vl()
    return {
        "transformer": transformer(
            patch_size=[1, 2, 2], in_channels=16, hidden_size=32, num_attention_heads=2, text_dim=16, num_layers=1,
            rope_dim_list=[4, 6, 6], theta=256,
        ),
        "vae": wan(), "scheduler": parts.flow(), "text_encoder": text_encoder, "tokenizer": processor.tokenizer,
        "processor": processor,
    }  # fmt: skip


def make_joy(parts: Any) -> Any:
    from diffusers import JoyImageEditPipeline, JoyImageEditTransformer3DModel

    return JoyImageEditPipeline(**joy_parts(parts, JoyImageEditTransformer3DModel))


def make_joy_plus(parts: Any) -> Any:
    from diffusers import JoyImageEditPlusPipeline, JoyImageEditPlusTransformer3DModel

    return JoyImageEditPlusPipeline(**joy_parts(parts, JoyImageEditPlusTransformer3DModel))


def make_longcat_edit(parts: Any) -> Any:
    from diffusers import LongCatImageEditPipeline, LongCatImageTransformer2DModel

    processor = parts.qwen_vl_processor()
    return LongCatImageEditPipeline(
        transformer=LongCatImageTransformer2DModel(
            in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=1,
            joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=[4, 4, 8],
        ),
        scheduler=parts.flow(),
        vae=parts.autoencoder(
            16, block_out_channels=(4,) * 4, down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, shift_factor=0.1, scaling_factor=0.4,
        ),
        text_encoder=parts.qwen_vl(processor.tokenizer), tokenizer=processor.tokenizer, text_processor=processor,
    )  # fmt: skip


SHORT: dict[str, Any] = {"max_sequence_length": 256}
CASES: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "BriaFiboPipeline": (make_bria_fibo, SHORT),
    "Cosmos2TextToImagePipeline": (make_cosmos, {"max_sequence_length": 32}),
    "GlmImagePipeline": (make_glm, SHORT),
    "JoyImageEditPipeline": (make_joy, SHORT),
    "JoyImageEditPlusPipeline": (make_joy_plus, SHORT),
    "LongCatImageEditPipeline": (make_longcat_edit, {}),
}


class SafetyChecker(torch.nn.Module):
    """Stands in for cosmos_guardrail, whose weights are far too large for a test."""

    dtype = torch.float32
    device = torch.device("cpu")

    def check_text_safety(self, prompt: str) -> bool:
        return "weapon" not in prompt

    def check_video_safety(self, frames: Any) -> Any:
        return frames


@pytest.fixture
def guardrail(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.pipelines.cosmos import pipeline_cosmos2_text2image

    monkeypatch.setattr(pipeline_cosmos2_text2image, "CosmosSafetyChecker", SafetyChecker)
    monkeypatch.setattr(signature, "find_spec", lambda package: package)


@pytest.mark.slow
@pytest.mark.parametrize("class_name", CASES)
def test_a_class_with_parts_of_its_own_draws_each_of_its_tasks(
    class_name: str, draw_every_task: Any, guardrail: None
) -> None:
    draw_every_task(*CASES[class_name])


def test_cosmos_names_the_package_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature, "find_spec", lambda package: None)
    with pytest.raises(
        GeneratorUnavailableError, match=r"packages that are not all installed: cosmos_guardrail \(pip install cosm"
    ):
        describe_class("Cosmos2TextToImagePipeline")
