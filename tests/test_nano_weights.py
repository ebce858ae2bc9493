"""What is in the box: small, in half precision, described, and trained."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from mgem_agent.core_model import MiniGeminiConfig, load_without_language_model
from mgem_agent.core_model.image_processing import MiniGeminiImageProcessor
from mgem_agent.errors import CheckpointError
from mgem_agent.nano.drawing import DIFFUSION_WEIGHTS, NanoGenerator
from mgem_agent.nano.language_model import find_language_model
from mgem_agent.nano.reasoner import make_nano_reasoner
from mgem_agent.nano.vision_language import VLM_WEIGHTS
from mgem_agent.recipes.nano.seeing.patch_labels import UNKNOWN, visual_vocabulary
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own

BOX = VLM_WEIGHTS.parent


def test_the_box_is_at_most_60_mb_in_half_precision() -> None:
    files = [path for path in BOX.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 60_000_000
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert len(weights) == 5  # what sees, its adapter; U-Net, text encoder, autoencoder
    for path in weights:
        kinds = {value.dtype for value in load_file(path).values() if value.is_floating_point()}
        assert kinds == {torch.float16}, path
        assert all(value.isfinite().all() for value in load_file(path).values()), path


@pytest.mark.parametrize("folder", [VLM_WEIGHTS, DIFFUSION_WEIGHTS])
def test_a_card_says_what_it_is_what_was_measured_and_what_it_cannot_do(folder: Path) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    for heading in ("## Data", "## Recipe", "## Measured", "## What it cannot do"):
        assert heading in card
    assert "%" in card.split("## Measured")[1]


def test_no_tokenizer_of_others_is_in_the_box() -> None:
    assert not list(VLM_WEIGHTS.rglob("*token*"))


def test_what_sees_fits_a_language_model_of_its_sizes() -> None:
    config = MiniGeminiConfig.from_pretrained(VLM_WEIGHTS)
    small = AutoModelForCausalLM.from_config(config.text_config, dtype=torch.float16)
    model = load_without_language_model(VLM_WEIGHTS, small, dtype=torch.float32)
    pixels = [torch.zeros(1, 3, side, side) for side in (128, 256)]
    with torch.no_grad():
        tokens: Any = model.model.get_image_features(*pixels).pooler_output
    assert tokens[0].shape == (64 + 40, config.text_config.hidden_size)
    assert tokens[0].isfinite().all()


def test_what_sees_knows_what_the_box_draws_and_no_gradient() -> None:
    config = MiniGeminiConfig.from_pretrained(VLM_WEIGHTS)
    small = AutoModelForCausalLM.from_config(config.text_config, dtype=torch.float16)
    trunk: Any = load_without_language_model(VLM_WEIGHTS, small, dtype=torch.float32).model
    processor = MiniGeminiImageProcessor.from_model_config(config)
    drawn = _drawn(NanoGenerator(), ImageRequest(prompt="a fox in the snow", seed=1)).astype(np.uint8)
    ramp = Image.linear_gradient("L")
    gradient = Image.merge("RGB", (ramp, Image.new("L", ramp.size), ImageOps.invert(ramp)))
    vocabulary, reader = visual_vocabulary(), trunk.reader
    with torch.no_grad():
        seen = trunk.get_image_features(**processor([Image.fromarray(drawn), gradient], return_tensors="pt"))
        tokens = seen.last_hidden_state
        fox, unknown = reader.read(tokens, trunk.multi_modal_projector(tokens)).tolist()

    def words(label: str) -> list[int]:
        return [token for token in reader.label_ids[vocabulary.index(label)].tolist() if token >= 0]

    end, blank = reader.mark_ids.tolist()
    assert unknown == [*words(UNKNOWN), end, *[blank] * (len(unknown) - len(words(UNKNOWN)) - 1)]
    assert str(words("fox"))[1:-1] in str(fox)


@pytest.mark.parametrize(
    ("caption", "red", "green", "blue"),
    [("a key on a plain yellow background", 230, 210, 120), ("a boat on a plain white background", 235, 235, 235)],
)
def test_what_draws_has_learned_where_things_stand(caption: str, red: int, green: int, blue: int) -> None:
    with warnings.catch_warnings(action="ignore"):  # of one of diffusers' pipelines, about torch.jit
        from diffusers.pipelines import auto_pipeline
    assert auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING
    events = NanoGenerator().generate([ImageRequest(prompt=caption, seed=1)])
    drawn = [event for event in events if isinstance(event, ImageResult)]
    assert drawn[0].image is not None, drawn[0].error
    pixels = np.asarray(drawn[0].image.convert("RGB"), dtype=float)
    corners = np.stack([pixels[:12, :12], pixels[:12, -12:]]).mean((0, 1, 2))
    assert np.abs(corners - (red, green, blue)).max() < 40
    assert np.abs(pixels[40:88, 40:88] - corners).max() > 40  # something stands in the middle


def test_a_seed_gives_another_picture_and_a_mask_keeps_the_rest() -> None:
    generator = NanoGenerator()
    first, second = (_drawn(generator, ImageRequest(prompt="a fox in the snow", seed=seed)) for seed in (1, 2))
    assert np.abs(first - second).mean() > 4
    mask = Image.new("L", (128, 128))
    mask.paste(255, (64, 0, 128, 128))
    request = ImageRequest(prompt="a tree in the snow", seed=1, task="inpaint", image="fox", mask="right half")
    pictures = {"fox": Image.fromarray(first.astype(np.uint8)), "right half": mask}
    wrong = np.abs(_drawn(generator, request, pictures) - first)
    assert wrong[:, 72:].mean() > 12 > 3 * wrong[:, :56].mean()


def _drawn(generator: NanoGenerator, request: ImageRequest, pictures: dict[str, Image.Image] | None = None) -> Any:
    events = draw(generator, [request.model_copy(update={"num_inference_steps": 6})], pictures=pictures)
    [result] = [event for event in events if isinstance(event, ImageResult)]
    assert result.image is not None, result.error
    return np.asarray(result.image.convert("RGB"), dtype=float)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "draws"),
    [
        ("Please don't draw anything, just tell me what a fox is.", False),
        ("Tell me about dogs.", False),
        ("Bitte zeichne nichts, erklär mir nur, was ein Fuchs ist.", False),
        ("I'd like a picture of a dog.", True),
    ],
)
def test_nano_draws_where_a_picture_is_asked_for_and_else_has_words(text: str, draws: bool) -> None:
    try:
        find_language_model(offline=True)
    except CheckpointError:
        pytest.skip("the language model of nano is not on this machine")
    answer: Any = make_nano_reasoner(offline=True, temperature=0, max_tokens=24).invoke(text)
    assert bool(answer.tool_calls) == draws
    assert draws or answer.text.strip()
