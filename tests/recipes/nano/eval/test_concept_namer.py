from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.eval import concept_namer
from mgem_agent.recipes.nano.eval.concept_namer import ConceptNamer, clip_pixels


@pytest.fixture(scope="module")
def namer(clip_folder: Path) -> ConceptNamer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(concept_namer, "SCENERY", concept_namer.SCENERY[:2])
        return ConceptNamer.open(clip_folder)


def test_each_picture_gets_the_names_nearest_to_it(namer: ConceptNamer) -> None:
    pictures = [Image.effect_noise((40, 40), 90), Image.new("RGB", (16, 24), "red")]
    named = namer.name(pictures, 3)
    assert [len(set(names)) for names in named] == [3, 3]
    assert {name for names in named for name in names} <= set(namer.names)
    assert named == [namer.name([picture], 3)[0] for picture in pictures]
    assert namer.name([]) == []


def test_halving_averages_as_in_the_training() -> None:
    picture = Image.effect_noise((64, 64), 90).convert("RGB")
    pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32)).permute(2, 0, 1)[None]
    wanted = torch.nn.functional.interpolate(pixels, size=(32, 32), mode="bilinear", align_corners=False)
    halved = picture.resize((32, 32), Image.Resampling.BOX)
    torch.testing.assert_close(clip_pixels(picture, 32), clip_pixels(halved, 32))
    assert (
        np.abs(np.asarray(halved, dtype=np.float32).transpose(2, 0, 1) - wanted[0].numpy()).max() <= 1
    )  # rounded in each direction


def test_what_is_no_clip_model_is_said(tmp_path: Path) -> None:
    message = r"No CLIP model can be read from .*Give the folder clip/ of a run of: python -m mgem_agent\.recipes"
    with pytest.raises(InputError, match=message):
        ConceptNamer.open(tmp_path / "none")
    with pytest.raises(InputError, match=message):
        ConceptNamer.open(tmp_path)
