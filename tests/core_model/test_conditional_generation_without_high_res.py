"""A model without high resolution, as the paper's baselines: no high-resolution encoder, no mining."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.errors import InputError

PICTURE = Image.effect_noise((40, 30), 60).convert("RGB")


def config_of(make_config: Callable[..., MiniGeminiConfig], **fields: Any) -> MiniGeminiConfig:
    return MiniGeminiConfig.from_dict({**make_config().to_dict(), "high_res_image_size": None, **fields})


@pytest.fixture
def model(make_config: Callable[..., MiniGeminiConfig]) -> MiniGeminiForConditionalGeneration:
    torch.manual_seed(0)
    return MiniGeminiForConditionalGeneration(config_of(make_config, prompt_template="chatml")).eval()


@pytest.fixture
def processor(model: MiniGeminiForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> MiniGeminiProcessor:
    return MiniGeminiProcessor.from_model_config(model.config, tokenizer)


def test_visual_tokens_are_those_of_the_low_res_encoder(
    model: MiniGeminiForConditionalGeneration, processor: MiniGeminiProcessor
) -> None:
    assert not [name for name, _ in model.named_parameters() if "high_res" in name or "mining" in name]
    pixels = processor(images=[PICTURE, PICTURE.rotate(90)])
    assert set(pixels) == {"pixel_values"} and pixels["pixel_values"].shape == (2, 3, 28, 28)
    found = model.get_image_features(**pixels)
    with torch.no_grad():
        clip: Any = model.model.vision_tower(pixels["pixel_values"], output_hidden_states=True)
        expected = model.model.multi_modal_projector(clip.hidden_states[-2][:, 1:])
    torch.testing.assert_close(torch.stack(found.pooler_output), expected)


def test_crops_come_in_the_same_order_as_with_high_res(make_config: Callable[..., MiniGeminiConfig]) -> None:
    config = config_of(make_config, image_grid=2, image_global=True)
    model = MiniGeminiForConditionalGeneration(config).eval()
    pixels = torch.randn(1, 3, 56, 56)
    tokens: Any = model.get_image_features(pixels).last_hidden_state
    assert tokens.shape == (1, 80, 16)
    with torch.no_grad():
        for number, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
            crop = pixels[:, :, 28 * row : 28 * row + 28, 28 * column : 28 * column + 28]
            clip: Any = model.model.vision_tower(crop, output_hidden_states=True)
            own = tokens[:, 16 + 16 * number : 32 + 16 * number]
            torch.testing.assert_close(own, clip.hidden_states[-2][:, 1:])


def test_it_answers_and_is_saved(
    model: MiniGeminiForConditionalGeneration, processor: MiniGeminiProcessor, tmp_path: Path
) -> None:
    messages = [{"role": "user", "content": [{"type": "image", "image": PICTURE}, {"type": "text", "text": "What?"}]}]

    def answer(one: Any, other: Any) -> torch.Tensor:
        inputs = other.apply_chat_template(messages, tokenize=True, return_dict=True, add_generation_prompt=True)
        made: torch.Tensor = one.generate(**inputs, max_new_tokens=4, do_sample=False)
        return made

    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = MiniGeminiForConditionalGeneration.from_pretrained(tmp_path)
    assert again.config.high_res_image_size is None
    read = MiniGeminiProcessor.from_pretrained(tmp_path)
    assert torch.equal(answer(model, processor), answer(again, read))


def test_pixels_that_do_not_fit_are_refused(
    model: MiniGeminiForConditionalGeneration, make_model: Callable[..., MiniGeminiForConditionalGeneration]
) -> None:
    low, high = torch.zeros(1, 3, 28, 28), torch.zeros(1, 3, 64, 64)
    with pytest.raises(InputError, match=r"must be \(1, 3, 28, 28\) and None, got \(1, 3, 28, 28\) and \(1, 3, 64, 64"):
        model.get_image_features(low, high)
    with pytest.raises(InputError, match="Images need both pixel_values and high_res_pixel_values"):
        make_model().get_image_features(low)


def test_only_the_projector_and_the_language_model_are_left_to_train(
    model: MiniGeminiForConditionalGeneration,
) -> None:
    model.train()
    trained = {name.split(".")[1] for name, value in model.named_parameters() if value.requires_grad}
    assert trained == {"multi_modal_projector", "language_model", "weight"}
