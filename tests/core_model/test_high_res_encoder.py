import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import safetensors.torch
import timm
import torch

from mgem_agent.core_model import HighResEncoder, HighResVisionConfig, high_res_config_from_open_clip
from mgem_agent.errors import CheckpointError, InputError


def test_stage_maps_equal_timm() -> None:
    config = HighResVisionConfig(hidden_sizes=[8, 16, 24, 40], depths=[2, 2, 3, 2])
    plain = timm.models.convnext.ConvNeXt(depths=(2, 2, 3, 2), dims=tuple(config.hidden_sizes), num_classes=0).eval()
    encoder = HighResEncoder(config).eval()
    encoder.load_state_dict({k: v for k, v in plain.state_dict().items() if k.startswith(("stem", "stages"))})
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps = encoder(images)
        torch.testing.assert_close(maps[-1], plain.forward_features(images))
    assert [tuple(m.shape) for m in maps] == [(2, c, 16 >> i, 16 >> i) for i, c in enumerate(config.hidden_sizes)]


@pytest.mark.parametrize(
    ("name", "widths", "depths", "eps", "parameters", "tensors"),
    [
        ("convnext_base_w_320", [128, 256, 512, 1024], [3, 3, 27, 3], 1e-6, 87_564_416, 340),
        ("convnext_large_d_320", [192, 384, 768, 1536], [3, 3, 27, 3], 1e-6, 196_227_264, 340),
        ("convnext_xxlarge", [384, 768, 1536, 3072], [3, 4, 30, 3], 1e-5, 843_391_872, 376),
    ],
)
def test_open_clip_models(
    name: str, widths: list[int], depths: list[int], eps: float, parameters: int, tensors: int
) -> None:
    config = high_res_config_from_open_clip(name)
    assert (config.hidden_sizes, config.depths, config.layer_norm_eps) == (widths, depths, eps)
    assert config.drop_path_rate == 0.1
    with torch.device("meta"):
        encoder = HighResEncoder(config)
    assert sum(p.numel() for p in encoder.parameters()) == parameters
    assert len(encoder.state_dict()) == tensors
    assert {m.eps for m in encoder.modules() if "LayerNorm" in type(m).__name__} == {eps}


@pytest.fixture(scope="module")
def open_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw open_clip folder as LAION publishes them, with a small ConvNeXt."""
    folder = tmp_path_factory.mktemp("open_clip")
    model_config = {
        "embed_dim": 8,
        "vision_cfg": {"timm_model_name": "convnext_atto", "timm_model_pretrained": False, "timm_pool": "",
                       "timm_proj": "linear", "timm_drop_path": 0.1, "image_size": 64},
        "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 8, "heads": 2, "layers": 1},
    }  # fmt: skip
    model = open_clip.CLIP(**model_config)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_config, "preprocess_cfg": {}}))
    safetensors.torch.save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


@pytest.mark.parametrize("weights", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_loads_raw_open_clip_weights(open_clip_folder: Path, tmp_path: Path, weights: str) -> None:
    for name in ("open_clip_config.json", weights):
        (tmp_path / name).write_bytes((open_clip_folder / name).read_bytes())
    encoder = HighResEncoder.from_open_clip(tmp_path)
    stored = safetensors.torch.load_file(open_clip_folder / "open_clip_model.safetensors")
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, stored[f"visual.trunk.{key}"].reshape(value.shape))
    assert len(encoder.state_dict()) == sum(k.startswith(("visual.trunk.stem", "visual.trunk.stages")) for k in stored)
    assert HighResEncoder.from_open_clip(tmp_path, dtype=torch.bfloat16).stem[0].weight.dtype == torch.bfloat16


def test_says_what_is_wrong_with_a_folder(open_clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not an open_clip folder: it must hold open_clip_config.json"):
        HighResEncoder.from_open_clip(tmp_path)
    (tmp_path / "open_clip_config.json").write_bytes((open_clip_folder / "open_clip_config.json").read_bytes())
    weights = safetensors.torch.load_file(open_clip_folder / "open_clip_model.safetensors")
    weights["visual.trunk.stages.9.extra"] = weights.pop("visual.trunk.stem.0.weight")
    safetensors.torch.save_file(weights, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        HighResEncoder.from_open_clip(tmp_path)
    assert (caught.value.missing, caught.value.unexpected) == (("stem.0.weight",), ("stages.9.extra",))
    weights["visual.trunk.stem.0.weight"] = weights.pop("visual.trunk.stages.9.extra")[:, :1].contiguous()
    safetensors.torch.save_file(weights, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(CheckpointError, match=r"stem.0.weight: \(40, 1, 4, 4\), needed \(40, 3, 4, 4\)"):
        HighResEncoder.from_open_clip(tmp_path)


@pytest.mark.parametrize("name", ["ViT-B-32", "convnext_giant"])
def test_refuses_a_tower_that_is_no_convnext(name: str) -> None:
    with pytest.raises(
        InputError, match=f"'{name}' is not an open_clip model with a ConvNeXt. Known: .*convnext_large_d_320"
    ):
        high_res_config_from_open_clip(name)


def test_a_compiled_forward_pass_gives_the_same_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def compile_(call: Any) -> Any:  # the real compiler takes half a minute
        compiled.append(call)
        return lambda pixels: call(pixels)

    encoder = HighResEncoder(HighResVisionConfig(hidden_sizes=(4, 8, 12, 16), depths=(1, 1, 2, 1))).eval()
    pixels = torch.randn(1, 3, 64, 64)
    wanted = encoder(pixels)
    monkeypatch.setattr(torch, "compile", compile_)
    encoder.compile_forward()
    assert len(compiled) == 1
    for found, other in zip(encoder(pixels), wanted, strict=True):
        assert torch.equal(found, other)
