from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.drawings.fidelity import measure_clip_score, measure_fidelity
from mgem_agent.recipes.eval.story.encoders import make_encoder

pytest.importorskip("torchmetrics")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def draw(folder: Path, *spreads: int) -> list[Path]:
    folder.mkdir()
    for number, spread in enumerate(spreads):
        Image.effect_noise((32, 32), spread).convert("RGB").save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def test_equal_pictures_have_no_distance(tmp_path: Path) -> None:
    drawn = draw(tmp_path / "drawn", 10, 50, 90, 120)
    encoder = make_encoder("nano")
    same = measure_fidelity(drawn, tmp_path / "drawn", encoder)
    draw(tmp_path / "other", 200, 220, 240, 250)
    other = measure_fidelity(drawn, tmp_path / "other", encoder)
    assert abs(same.fid) < 1e-3 < other.fid
    assert (same.features, same.inception_score, same.num_real) == ("nano", None, 4)
    with pytest.raises(InputError, match="two pictures or more of each kind, got 1 drawn and 4 real"):
        measure_fidelity(drawn[:1], tmp_path / "drawn", encoder)


def test_clip_score_is_the_cosine_of_pictures_and_captions(clip_folder: Path, tmp_path: Path) -> None:
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = CLIPProcessor(images, CLIPTokenizer.from_pretrained(clip_folder))
    processor.save_pretrained(tmp_path / "clip")
    CLIPModel.from_pretrained(clip_folder).save_pretrained(tmp_path / "clip")
    files, captions = draw(tmp_path / "drawn", 10, 90), ["a fox", "a bear"]
    found = measure_clip_score(files, captions, str(tmp_path / "clip"))
    model = CLIPModel.from_pretrained(clip_folder).eval()
    inputs = processor(text=captions, images=[load_image(file) for file in files], return_tensors="pt", padding=True)
    with torch.inference_mode():
        seen = model.get_image_features(pixel_values=inputs["pixel_values"])
        told = model.get_text_features(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
    rows = F.cosine_similarity(getattr(seen, "pooler_output", seen), getattr(told, "pooler_output", told))
    assert found == pytest.approx(max(0.0, 100 * float(rows.mean())), abs=0.01)


def test_a_clip_model_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No CLIP model can be read from"):
        measure_clip_score(draw(tmp_path / "a", 10), ["a fox"], str(tmp_path))
