from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.story.encoders import make_encoder

PICTURES = [Image.new("RGB", (40, 30), "red"), Image.effect_noise((64, 64), 90).convert("RGB")]


@pytest.fixture(scope="module")
def hf_folder(clip_folder: Path) -> Path:
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(clip_folder)
    return clip_folder


def test_nano_encodes_offline() -> None:
    encoder = make_encoder("nano")
    for rows in (encoder.contents(PICTURES), encoder.styles(PICTURES)):
        assert torch.allclose(rows.norm(dim=-1), torch.ones(2), atol=1e-5)
        assert float(rows[0] @ rows[1]) < 0.999
    assert torch.allclose(encoder.contents(PICTURES[:1]), encoder.contents(PICTURES)[:1], atol=1e-4)


def test_a_model_of_transformers(hf_folder: Path) -> None:
    encoder = make_encoder(f"hf:{hf_folder}")
    assert encoder.contents(PICTURES).shape == (2, 8) and encoder.styles(PICTURES).shape == (2, 16)


def test_a_model_of_open_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "patch_size": 16, "head_width": 8},
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
    }
    configs = open_clip.factory._MODEL_CONFIGS  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setitem(configs, "tiny", sizes)
    encoder = make_encoder("open_clip:tiny")
    assert encoder.contents(PICTURES).shape == (2, 8) and encoder.styles(PICTURES).shape == (2, 32)


@pytest.mark.parametrize("name", ["clip", "open_clip:", "hf:"])
def test_an_unknown_encoder_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"There is no encoder {name!r}. Allowed: 'nano'"):
        make_encoder(name)


def test_an_encoder_that_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be loaded"):
        make_encoder(f"hf:{tmp_path}")
