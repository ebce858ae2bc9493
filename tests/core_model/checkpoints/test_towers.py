"""From the folders that the authors name to the encoders' sizes."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest

from mgem_agent.core_model import HighResVisionConfig, high_res_config_from_open_clip
from mgem_agent.core_model.checkpoints.towers import (
    convnext_config,
    high_res_tower_config,
    tower_hub_id,
    vision_tower_config,
)
from mgem_agent.errors import CheckpointError

LAION_L = "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup"


@pytest.mark.parametrize(
    ("path", "hub_id"),
    [
        ("model_zoo/OpenAI/clip-vit-large-patch14-336", "openai/clip-vit-large-patch14-336"),
        ("openai/clip-vit-large-patch14-336", "openai/clip-vit-large-patch14-336"),
        ("C:\\zoo\\openai-clip-vit-large-patch14-336\\", "openai/clip-vit-large-patch14-336"),
        ("/data/CLIP_ViT_Large_patch14/", "openai/clip-vit-large-patch14"),
        ("model_zoo/OpenAI/openclip-convnext-large-d-320-laion2B-s29B-b131K-ft-soup", LAION_L),
        (LAION_L, LAION_L),
        ("zoo/openclip-convnext-base-w-320", "laion/CLIP-convnext_base_w_320-laion_aesthetic-s13B-b82K"),
        ("zoo/openclip-convnext-xxlarge", "laion/CLIP-convnext_xxlarge-laion2B-s34B-b82K-augreg-soup"),
        ("zoo/siglip-so400m", None),
        ("zoo/openclip-convnext-large", None),
    ],
)
def test_a_folder_name_gives_the_hub_id(path: str, hub_id: str | None) -> None:
    assert tower_hub_id(path) == hub_id


def test_the_low_resolution_encoder_of_the_released_models() -> None:
    config = vision_tower_config("model_zoo/OpenAI/clip-vit-large-patch14-336")
    assert (config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]) == (1024, 4096, 24)
    assert (config["num_attention_heads"], config["image_size"], config["patch_size"]) == (16, 336, 14)
    assert config["hidden_act"] == "quick_gelu"


@pytest.mark.parametrize("name", ["convnext_base_w_320", "convnext_large_d_320", "convnext_xxlarge"])
def test_the_high_resolution_encoders_are_those_of_open_clip(name: str) -> None:
    assert name in open_clip.list_models()
    theirs = high_res_config_from_open_clip(name)
    ours = HighResVisionConfig(**high_res_tower_config(f"zoo/openclip-{name}"))
    for field in ("hidden_sizes", "depths", "layer_norm_eps", "image_size"):
        assert getattr(ours, field) == getattr(theirs, field), field


def test_an_unknown_encoder_is_read_from_its_folder(tmp_path: Path) -> None:
    vision = {"hidden_size": 48, "image_size": 56, "patch_size": 7}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": vision}))
    assert vision_tower_config(str(tmp_path)) == {**vision, "model_type": "clip_vision_model"}

    content = {"model_cfg": {"vision_cfg": {"timm_model_name": "convnext_tiny", "image_size": 288}}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
    assert high_res_tower_config(str(tmp_path)) == {
        "hidden_sizes": [96, 192, 384, 768],
        "depths": [3, 3, 9, 3],
        "layer_norm_eps": 1e-6,
        "image_size": 288,
    }


def test_an_encoder_that_is_nowhere_is_named_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        vision_tower_config("zoo/eva-g")
    assert str(caught.value) == (
        "The low-resolution encoder 'zoo/eva-g' is not known, and there is no 'zoo/eva-g/config.json' to read its "
        "sizes "
        "from. Known: clip-vit-large-patch14-336, clip-vit-large-patch14, clip-vit-base-patch16, "
        "clip-vit-base-patch32. Put the encoder's config.json there, or name a known one in mm_vision_tower."
    )
    with pytest.raises(CheckpointError) as caught:
        high_res_tower_config("zoo/openclip-vit")
    assert str(caught.value) == (
        "The high-resolution encoder 'zoo/openclip-vit' is not known, and there is no "
        "'zoo/openclip-vit/open_clip_config.json' to read its sizes from. Known: names with convnext and large and "
        "d-320; "
        "convnext and base and w-320; convnext and xxlarge. Put the encoder's open_clip_config.json there, or name a "
        "known one in mm_vision_tower_aux."
    )


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(CheckpointError, match="describes a 'siglip'; the low-resolution encoder must be a 'clip'"):
        vision_tower_config(str(tmp_path))
    with pytest.raises(
        CheckpointError, match="does not describe a ConvNeXt: it lacks the lists hidden_sizes and depths"
    ):
        high_res_tower_config(str(tmp_path))
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(CheckpointError, match="cannot be read"):
        vision_tower_config(str(tmp_path))
    with pytest.raises(CheckpointError, match=r"^No ConvNeXt 'vit_large'\. Known: convnext_tiny, "):
        convnext_config("vit_large")
