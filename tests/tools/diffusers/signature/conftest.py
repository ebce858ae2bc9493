"""Tiny vision-language models for pipelines that have one, and the check that a pipeline draws what it says it can."""

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
    "img-mask": Image.new("L", (64, 64), 255),
    "img-other": Image.radial_gradient("L").resize((64, 64)).convert("RGB"),
    "img-start": Image.linear_gradient("L").resize((64, 64)).convert("RGB"),
}


VISION_MARKS = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]


def flow(**settings: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**settings)


def qwen3(cls: Any, **changes: Any) -> Any:
    from transformers import Qwen3Config

    shape = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 128, "max_position_embeddings": 512,
    }  # fmt: skip
    return cls(Qwen3Config(**shape | changes)).eval()


def qwen_vl(tokenizer: Any = None) -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    names = ("image", "video", "vision_start", "vision_end")
    marks = zip(names, tokenizer.convert_tokens_to_ids(VISION_MARKS), strict=True) if tokenizer else ()
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
            "num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
        },
        **{f"{name}_token_id": number for name, number in marks},
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def qwen_vl_processor(tokenizer: Any) -> Any:
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    tokenizer.add_special_tokens({"additional_special_tokens": VISION_MARKS})
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(), tokenizer=tokenizer, video_processor=Qwen2VLVideoProcessor()
    )


def qwen3_vl(tokenizer: Any) -> tuple[Any, Any]:
    """A vision-language model, and its processor."""
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokenizer.add_special_tokens({"additional_special_tokens": VISION_MARKS})
    image, video, start, end = tokenizer.convert_tokens_to_ids(VISION_MARKS)
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


@pytest.fixture(scope="session")
def parts(parts: SimpleNamespace) -> SimpleNamespace:
    """Makers of tiny parts, with those of vision-language models."""
    return SimpleNamespace(
        **vars(parts),
        flow=flow,
        qwen3=qwen3,
        qwen3_vl=lambda: qwen3_vl(parts.qwen_tokenizer()),
        qwen_vl=qwen_vl,
        qwen_vl_processor=lambda: qwen_vl_processor(parts.qwen_tokenizer()),
    )


@pytest.fixture
def draw_every_task(parts: SimpleNamespace, tmp_path: Path, ask: Any) -> Callable[..., None]:
    """Save a pipeline, load it as a user does, and draw each of its tasks: twice the same, and with another seed."""

    def check(maker: Callable[[Any], Any], options: dict[str, Any]) -> None:
        torch.manual_seed(0)
        generator = DiffusersGenerator.from_name(str(parts.save_tiny(maker(parts), tmp_path)))
        able = generator.capabilities
        for task in sorted(able.tasks):
            asked: dict[str, Any] = {"task": task, "options": options, "width": 64, "height": 64}
            if task != "text_to_image":
                asked["image"] = "img-start"
            if task == "inpaint":
                asked["mask"] = "img-mask"
            if able.negative_prompt:
                asked["negative_prompt"] = "rain"
            if able.guidance_scale:
                asked["guidance_scale"] = 3.0
            requests = [ask(**asked), ask(**asked), ask(**asked, seed=8)]
            if task == "edit" and able.max_references > 1:
                requests.append(ask(**asked, references=("img-other",)))
            events = list(generator.generate(requests, pictures=GIVEN))
            results = sorted((event for event in events if isinstance(event, ImageResult)), key=lambda each: each.index)
            assert [result.error for result in results] == [None] * len(requests)
            first, again, *others = (np.asarray(result.image, dtype=int) for result in results)
            same = np.abs(first - again).max()
            different, *referring = (np.abs(first - other).max() for other in others)
            assert different > 1 and (same <= 1 or same * 4 <= different)  # bfloat16 differs within a batch
            assert all(each > same for each in referring)
            # Some draw in sizes of their own, which are then reported.
            told = {notice.argument for notice in results[0].notices}
            assert first.shape == (64, 64, 3) or {"height", "width"} <= told
            assert any(isinstance(event, GenerationProgress) for event in events) == able.progress

    return check
