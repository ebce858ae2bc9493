"""Each released checkpoint at its full size: sparse files of the true size, keys enumerated by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration
from mgem_agent.core_model.checkpoints.inspection import inspect_checkpoint
from mgem_agent.core_model.checkpoints.released import RELEASED_CHECKPOINTS, ReleasedCheckpoint, official_config

# Published sizes of the safetensors files, in bytes of 2 for each parameter; the pages give three or four digits.
PUBLISHED_GB = {"MGM-2B": 7.09, "MGM-7B": 14.54, "MGM-13B": 27.1, "MGM-8B": 17.12}

by_name = pytest.mark.parametrize("released", RELEASED_CHECKPOINTS, ids=lambda released: released.name)


@by_name
def test_a_released_checkpoint_is_whole_and_each_change_is_told(
    released: ReleasedCheckpoint, folder: Any, full_size_shapes: Callable[..., Any]
) -> None:
    shapes = full_size_shapes(dict(released.text_config), released.family)
    folder.write_config(official_config(released.name))
    folder.write_sparse(shapes, num_shards=3)

    report = inspect_checkpoint(folder.path)
    assert (report.missing, report.unexpected, report.mismatched, report.problems) == ((), (), (), ())
    assert report.is_complete
    assert (report.format, report.family) == ("official", released.family)
    assert report.prompt_template == released.prompt_template
    assert report.geometry is not None
    assert report.geometry.low_res_input_size == released.low_res_size
    assert report.geometry.high_res_size == released.high_res_size
    assert report.geometry.num_image_tokens == released.num_image_tokens
    assert report.num_parameters == sum(torch.Size(shape).numel() for shape in shapes.values())
    assert report.dtypes == {"bfloat16": len(shapes)}
    if released.name in PUBLISHED_GB:
        assert report.num_bytes / 1e9 == pytest.approx(PUBLISHED_GB[released.name], rel=2e-3)

    gone, renamed = "model.layers.1.mlp.up_proj.weight", "model.vlm_uni_val_projector.1.bias"
    if released.family == "mixtral":
        gone = "model.layers.1.block_sparse_moe.experts.7.w3.weight"
    del shapes[gone]
    shapes["model.vlm_uni_value_projector.1.bias"] = shapes.pop(renamed)
    shapes["model.mm_projector.0.weight"] = shapes["model.mm_projector.0.weight"][::-1]
    shapes["model.image_newline"] = (4,)
    folder.write_sparse(shapes, num_shards=3)
    report = inspect_checkpoint(folder.path)
    assert not report.is_complete
    assert report.missing == (gone, renamed)
    assert report.unexpected == ("model.image_newline", "model.vlm_uni_value_projector.1.bias")
    width = released.text_config["hidden_size"]
    assert report.mismatched == (
        f"model.mm_projector.0.weight: (1024, {width}) in the checkpoint, ({width}, 1024) in the model",
    )


@by_name
def test_the_model_at_full_size_has_as_many_parameters_as_the_file(
    released: ReleasedCheckpoint, full_size_shapes: Callable[..., Any]
) -> None:
    config = MiniGeminiConfig.from_dict(official_config(released.name))
    with torch.device("meta"):
        model = MiniGeminiForConditionalGeneration(config)
    shapes = full_size_shapes(dict(released.text_config), released.family)
    if config.tie_word_embeddings:
        del shapes["lm_head.weight"]  # Gemma's head is its embedding; the file stores it twice
    assert model.num_parameters() == sum(torch.Size(shape).numel() for shape in shapes.values())
    multimodal = [key for key in model.state_dict() if ".language_model." not in key and key != "lm_head.weight"]
    assert len(multimodal) == 747
