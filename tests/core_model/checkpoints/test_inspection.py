"""What a folder is, and whether it is whole."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mgem_agent.core_model.checkpoints.inspection import inspect_checkpoint
from mgem_agent.core_model.checkpoints.released import find_released, official_config

Tensors = dict[str, torch.Tensor]


@pytest.mark.parametrize("family", ["llama", "gemma", "mistral", "mixtral"])
@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_an_official_folder(
    family: str, form: str, folder: Any, tiny_config: Callable[..., Any], tiny_tensors: Callable[..., Tensors]
) -> None:
    tensors = tiny_tensors(family, dtype=torch.float16)
    folder.write_config(tiny_config(family))
    folder.write(tensors, form=form, num_shards=2)
    report = inspect_checkpoint(folder.path)
    assert report.is_complete, report
    assert (report.format, report.family) == ("official", family)
    assert report.num_parameters == sum(tensor.numel() for tensor in tensors.values())
    assert report.num_bytes == 2 * report.num_parameters
    assert report.dtypes == {"float16": len(tensors)}
    assert len(report.files) == 2
    assert json.loads(json.dumps(report.to_dict()))["is_complete"] is True
    [missing, *others] = reversed(report.notes)
    assert missing.startswith("The tokenizer is missing. Put its language model's tokenizer files (tokenizer.json, ")
    assert bool(others) == (family == "gemma")
    (folder.path / "tokenizer.json").write_text("{}")
    assert not any("tokenizer" in note for note in inspect_checkpoint(folder.path).notes)


@pytest.mark.parametrize("family", ["llama", "gemma", "mixtral", "qwen3_moe"])
def test_a_folder_of_ours(family: str, make_model: Callable[..., Any], tmp_path: Path) -> None:
    model = make_model(family, hd=True)
    model.save_pretrained(tmp_path, max_shard_size="30KB", save_original_format=family == "mixtral")
    report = inspect_checkpoint(tmp_path)
    assert report.is_complete, report
    assert (report.format, report.family) == ("ours", family)
    assert report.geometry == model.config.geometry
    assert report.num_parameters == model.num_parameters()


def test_everything_that_is_wrong_is_told_at_once(
    folder: Any, tiny_config: Callable[..., Any], tiny_tensors: Callable[..., Tensors]
) -> None:
    tensors = tiny_tensors()
    folder.write_config(tiny_config())
    folder.write(tensors, num_shards=4)
    (folder.path / "model-00001-of-00004.safetensors").unlink()
    shard = folder.path / "model-00003-of-00004.safetensors"
    shard.write_bytes(shard.read_bytes()[:-8])
    report = inspect_checkpoint(folder.path)
    assert not report.is_complete
    assert [problem.split(" is ")[0].split("/")[-1] for problem in report.problems] == [
        "The weight file 'model-00001-of-00004.safetensors'",
        f"model-00003-of-00004.safetensors' ({shard.stat().st_size} bytes)",
    ]
    names = sorted(tensors)
    step = -(-len(names) // 4)
    assert report.missing == tuple(sorted(names[:step] + names[2 * step : 3 * step]))


def test_raw_towers(raw_shapes: dict[str, Any], tiny_config: Callable[..., Any], folder: Any) -> None:
    tiny_config()  # writes the towers' folders
    clip = folder.path.parent / "my-vit"
    save_file({key: torch.zeros(shape) for key, shape in raw_shapes["clip"].items()}, clip / "model.safetensors")
    report = inspect_checkpoint(clip)
    assert (report.format, report.is_complete, report.family) == ("clip", True, None)

    shapes = {**raw_shapes["open_clip"], "visual.head.proj.weight": (768, 1536), "logit_scale": (1,)}
    content = {"model_cfg": {"vision_cfg": {"timm_model_name": "convnext_large", "image_size": 320}}}
    (folder.path / "open_clip_config.json").write_text(json.dumps(content))
    folder.write_sparse(shapes, num_shards=1)
    (folder.path / "model-00001-of-00001.safetensors").rename(folder.path / "open_clip_model.safetensors")
    report = inspect_checkpoint(folder.path)
    assert (report.format, report.is_complete) == ("open_clip", True)

    del shapes["visual.trunk.stages.2.blocks.26.gamma"]
    folder.write_sparse(shapes, num_shards=1)
    (folder.path / "model-00001-of-00001.safetensors").rename(folder.path / "open_clip_model.safetensors")
    assert inspect_checkpoint(folder.path).missing == ("visual.trunk.stages.2.blocks.26.gamma",)


@pytest.mark.parametrize("with_config", [True, False])
def test_a_stage_1_projector(
    with_config: bool, folder: Any, tiny_config: Callable[..., Any], tiny_tensors: Callable[..., Tensors]
) -> None:
    parts = ("mm_projector", "vlm_uni", "vision_tower")
    tensors = {key: value for key, value in tiny_tensors().items() if any(part in key for part in parts)}
    if with_config:
        folder.write_config(tiny_config())
    torch.save(tensors, folder.path / "mm_projector.bin")
    report = inspect_checkpoint(folder.path)
    assert (report.format, report.is_complete) == ("stage_1", True)

    del tensors["model.vlm_uni_aux_projector.0.bias"]
    tensors["model.mm_projector.2.bias"] = torch.zeros(7)
    torch.save(tensors, folder.path / "mm_projector.bin")
    report = inspect_checkpoint(folder.path)
    assert report.missing == ("model.vlm_uni_aux_projector.0.bias",)
    assert report.mismatched == ("model.mm_projector.2.bias: (7,) in the checkpoint, (32,) in the model",)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "is not a checkpoint: it has neither config.json nor open_clip_config.json nor mm_projector.bin."),
        ({"config.json": '{"model_type": "llama"}'}, "holds a 'llama' model. Known: Mini-Gemini in this library's"),
        ({"config.json": "{"}, "cannot be read as JSON"),
        (
            {"config.json": '{"model_type": "mgm_phi", "mm_vision_tower": "x"}'},
            "lacks mm_vision_tower_aux, image_size_aux",
        ),
        ({"config.json": '{"model_type": "mini_gemini"}'}, "There are no weights in"),
        ({"config.json": '{"model_type": "mini_gemini", "image_grid": "two"}'}, "does not describe a model: "),
        ({"config.json": '{"model_type": "mini_gemini", "high_res_image_size": 700}'}, "does not divide into"),
        ({"open_clip_config.json": '{"model_cfg": {"vision_cfg": {"layers": 12}}}'}, "No ConvNeXt ''"),
    ],
)
def test_a_folder_of_something_else(files: dict[str, str], words: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    report = inspect_checkpoint(tmp_path)
    assert (report.format, report.is_complete) == ("unknown", False)
    assert words in report.problems[0]


def test_a_quantized_folder_is_not_compared(make_model: Callable[..., Any], tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (tmp_path / "config.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer.json").write_text("{}")
    report = inspect_checkpoint(tmp_path)
    assert report.is_complete
    assert report.notes == (
        "The weights are quantized. Their files were read, but names and shapes were not compared.",
    )


@pytest.mark.slow
def test_34_billion_parameters_are_looked_over_in_little_memory(
    folder: Any, full_size_shapes: Callable[..., Any]
) -> None:
    folder.write_config(official_config("MGM-34B"))
    folder.write_sparse(full_size_shapes(dict(find_released("MGM-34B").text_config), "llama"), num_shards=8)
    code = (
        "import resource, sys;"
        "from mgem_agent.core_model.checkpoints.inspection import inspect_checkpoint;"
        "import mgem_agent.core_model.conditional_generation;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "report = inspect_checkpoint(sys.argv[1]);"
        "print(report.is_complete, report.num_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder.path)], check=True, capture_output=True, text=True, timeout=120
    )
    whole, num_bytes, grown_kb = done.stdout.split()
    assert whole == "True"
    assert int(num_bytes) > 69e9
    assert int(grown_kb) < 200 * 1024
