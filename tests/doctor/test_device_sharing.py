"""What `mgem doctor` says of two models on one device, with numbers from headers of real files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mgem_agent.device_memory.device_access import TorchDevices
from mgem_agent.device_memory.model_size import ModelSize
from mgem_agent.doctor.device_sharing import check_device_sharing
from mgem_agent.nano.reasoner import NanoChat
from mgem_agent.settings import load_settings

GIB = 2**30


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A pipeline of headers: 4 MiB of a U-Net in float16, which take 8 MiB in float32."""
    folder = tmp_path / "pipeline"
    (folder / "unet").mkdir(parents=True)
    save_file(
        {"weight": torch.zeros(2**21, dtype=torch.float16)}, folder / "unet" / "diffusion_pytorch_model.safetensors"
    )
    (folder / "model_index.json").write_text(
        '{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],'
        ' "safety_checker": [null, null]}'
    )
    return folder


@pytest.fixture
def sized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say that nano needs 3 GiB."""
    size = ModelSize({"language model": 2 * GIB, "mining": GIB // 2}, GIB // 2)
    monkeypatch.setattr(NanoChat, "memory_size", lambda self, name: size)


def on_gpu(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    monkeypatch.setattr(TorchDevices, "available_bytes", lambda self, device: int(gib * GIB))
    monkeypatch.setattr(TorchDevices, "can_rest", lambda self, device: True)


def texts(generator: str, **settings: Any) -> list[str]:
    return [found.text for found in check_device_sharing(load_settings(model="nano", generator=generator, **settings))]


@pytest.mark.usefixtures("sized")
def test_numbers_are_given_by_part(pipeline: Path) -> None:
    model, generator, verdict = texts(f"diffusers:{pipeline}", generator_options={"dtype": "float32"})
    assert (
        model
        == "model nano needs 3.0 GiB (language model 2.0 GiB, mining 512 MiB, working memory about 512 MiB) on cpu"
    )
    assert generator == f"generator diffusers:{pipeline} needs 8 MiB (unet 8 MiB) on cpu"
    assert verdict == "memory_policy auto: both stay in main memory; they need 3.0 GiB"


@pytest.mark.usefixtures("sized")
@pytest.mark.parametrize(
    ("gib", "settings", "expected"),
    [
        (12, {}, "cpu has 12.0 GiB for models, both need 3.0 GiB; memory_policy auto: both stay"),
        (3, {}, "cpu has 3.0 GiB for models, both need 3.0 GiB; memory_policy auto: the idle one moves to main memory"),
        (2, {}, "cpu has 2.0 GiB for models; the larger one alone needs 3.0 GiB"),
        (12, {"memory_limit_gib": 3}, "the idle one moves to main memory"),
        (12, {"memory_policy": "keep"}, "memory_policy keep: both stay"),
        (12, {"memory_policy": "swap"}, "memory_policy swap: the idle one moves to main memory"),
        (12, {"memory_policy": "unload"}, "memory_policy unload: the idle one is unloaded"),
    ],
)
def test_the_verdict_follows_the_policy(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch, gib: float, settings: dict[str, Any], expected: str
) -> None:
    on_gpu(monkeypatch, gib)
    assert texts(f"diffusers:{pipeline}", **settings)[-1].endswith(expected)


@pytest.mark.usefixtures("sized")
def test_swapping_without_memory_of_its_own_is_a_note(pipeline: Path) -> None:
    found = check_device_sharing(load_settings(generator=f"diffusers:{pipeline}", memory_policy="swap"))[-1]
    assert (found.status, found.fix) == ("note", "mgem config set memory_policy unload")
    assert found.text == "memory_policy swap has no effect on cpu, whose memory is the main memory"


def test_a_model_that_is_not_here_is_of_unknown_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NanoChat, "memory_size", lambda self, name: None)
    on_gpu(monkeypatch, 12)
    model, _, verdict = texts("nano")
    assert model == "model nano is not on this machine yet, so its size is unknown"
    assert verdict == "cpu has 12.0 GiB for models; the other model makes room when one of unknown size is loaded"


@pytest.mark.usefixtures("sized")
def test_servers_are_on_this_machine_or_elsewhere() -> None:
    assert texts("comfyui")[1] == (
        "generator comfyui is a server on this machine; memory_policy auto may ask it to free its memory"
    )
    assert texts("a1111:http://192.168.1.5:7860")[1:] == [
        "generator a1111:http://192.168.1.5:7860 runs on a server, or takes no memory of a device here"
    ]
