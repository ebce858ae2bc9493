"""Tests of the image processor, against a slow second implementation in PIL and torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mgem_agent.core_model import MiniGeminiConfig, image_processing
from mgem_agent.core_model.image_processing import MiniGeminiImageProcessor
from mgem_agent.errors import ImageError, InputError

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HIGH, LOW = 64, 28


def photo(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def slow_pad(image: Image.Image) -> Image.Image:
    side = max(image.size)
    square = Image.new("RGB", (side, side), (122, 116, 104))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square.resize((HIGH, HIGH), Image.Resampling.BICUBIC)


def slow_crop(image: Image.Image) -> Image.Image:
    width, height = image.size
    size = (HIGH, HIGH * height // width) if width < height else (HIGH * width // height, HIGH)
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - HIGH) // 2, (size[1] - HIGH) // 2
    return image.crop((left, top, left + HIGH, top + HIGH))


def slow_tensors(image: Image.Image, aspect: str) -> tuple[torch.Tensor, torch.Tensor]:
    square = slow_pad(image) if aspect == "pad" else slow_crop(image)
    pixels = torch.tensor(list(square.tobytes()), dtype=torch.float64).reshape(HIGH, HIGH, 3).permute(2, 0, 1)
    high = ((pixels / 255).float() - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    # Bilinear interpolation without antialiasing, from its definition. torch computes the places in float32, so it is
    # equal up to 1e-4; antialiasing would change it by 0.1.
    centres = ((torch.arange(LOW) + 0.5) * HIGH / LOW - 0.5).clamp(0, HIGH - 1)
    first = centres.floor().long()
    second = (first + 1).clamp(max=HIGH - 1)
    part = (centres - first).float()
    rows = high[:, first] * (1 - part)[:, None] + high[:, second] * part[:, None]
    return rows[:, :, first] * (1 - part) + rows[:, :, second] * part, high


@pytest.mark.parametrize("aspect", ["pad", "square"])
@pytest.mark.parametrize(
    "size", [(40, 30), (30, 40), (64, 64), (200, 131), (64, 20), (20, 64), (3, 90), (90, 3), (1, 1)]
)
def test_tensors_equal_those_of_the_slow_implementation(size: tuple[int, int], aspect: Any) -> None:
    processor: Any = MiniGeminiImageProcessor(
        high_res_image_size=HIGH, low_res_image_size=LOW, image_aspect_ratio=aspect
    )
    features = processor(photo(*size))
    low, high = slow_tensors(photo(*size), aspect)
    assert features["high_res_pixel_values"].dtype == features["pixel_values"].dtype == torch.float32
    torch.testing.assert_close(features["high_res_pixel_values"][0], high, rtol=0, atol=1e-6)
    torch.testing.assert_close(features["pixel_values"][0], low, rtol=0, atol=1e-4)
    direct = torch.nn.functional.interpolate(features["high_res_pixel_values"], size=(LOW, LOW), mode="bilinear")
    assert torch.equal(features["pixel_values"], direct)


def test_strips_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    for strip_pixels in (1, 500, 10**9):
        monkeypatch.setattr(image_processing, "STRIP_PIXELS", strip_pixels)
        for size in ((150, 40), (40, 150), (77, 76)):
            got = image_processing.resize_padded(photo(*size), HIGH, (122, 116, 104))
            assert got.tobytes() == slow_pad(photo(*size)).tobytes()


def test_a_panorama_never_becomes_a_square(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    new = Image.new

    def watched(mode: str, size: tuple[int, int], *args: Any) -> Image.Image:
        nonlocal largest
        largest = max(largest, size[0] * size[1])
        return new(mode, size, *args)

    monkeypatch.setattr(Image, "new", watched)
    monkeypatch.setattr(image_processing, "STRIP_PIXELS", 1 << 18)
    for size in ((4_000, 2), (2, 4_000)):
        image_processing.resize_padded(new("RGB", size), HIGH, (122, 116, 104))
    assert 0 < largest <= image_processing.STRIP_PIXELS


def test_batches_and_nested_lists() -> None:
    processor: Any = MiniGeminiImageProcessor(high_res_image_size=HIGH, low_res_image_size=LOW)
    images: list[Any] = [photo(40, 30), np.asarray(photo(9, 9)), photo(5, 50)]
    batch = processor(images)
    assert batch["pixel_values"].shape == (3, 3, LOW, LOW)
    assert batch["high_res_pixel_values"].shape == (3, 3, HIGH, HIGH)
    nested = processor([[images[0]], [], images[1:]])
    for name in processor.model_input_names:
        assert torch.equal(batch[name], nested[name])
        assert torch.equal(batch[name][1:2], processor(images[1])[name])
    arrays = processor(images, return_tensors="np")
    assert isinstance(arrays["pixel_values"], np.ndarray)


def test_settings_of_one_call() -> None:
    processor: Any = MiniGeminiImageProcessor(high_res_image_size=HIGH, low_res_image_size=LOW)
    cropped = processor(photo(40, 30), image_aspect_ratio="square", low_res_image_size=14)
    assert cropped["pixel_values"].shape == (1, 3, 14, 14)
    torch.testing.assert_close(
        cropped["high_res_pixel_values"][0], slow_tensors(photo(40, 30), "square")[1], rtol=0, atol=1e-6
    )
    assert processor.image_aspect_ratio == "pad"


def test_saved_and_loaded(tmp_path: Path) -> None:
    processor: Any = MiniGeminiImageProcessor(
        high_res_image_size=HIGH, low_res_image_size=LOW, image_aspect_ratio="square"
    )
    processor.save_pretrained(tmp_path)
    assert (tmp_path / "preprocessor_config.json").is_file()
    loaded = MiniGeminiImageProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    assert loaded.to_dict() == {
        "high_res_image_size": HIGH,
        "low_res_image_size": LOW,
        "image_aspect_ratio": "square",
        "image_mean": MEAN,
        "image_std": STD,
        "image_processor_type": "MiniGeminiImageProcessor",
    }
    assert torch.equal(loaded(photo(9, 8))["pixel_values"], processor(photo(9, 8))["pixel_values"])


def test_sizes_come_from_the_model(make_config: Callable[..., MiniGeminiConfig]) -> None:
    processor = MiniGeminiImageProcessor.from_model_config(make_config(hd=True))
    assert (processor.low_res_image_size, processor.high_res_image_size) == (56, 128)
    assert processor.image_aspect_ratio == "pad"
    released = MiniGeminiImageProcessor()
    assert (released.low_res_image_size, released.high_res_image_size) == (336, 768)


def test_settings_are_checked() -> None:
    with pytest.raises(InputError) as caught:
        MiniGeminiImageProcessor(image_aspect_ratio="wide")
    assert str(caught.value) == "image_aspect_ratio must be 'pad' or 'square', got 'wide'."
    for size in (0, -3, "768", 7.5):
        with pytest.raises(InputError) as caught:
            MiniGeminiImageProcessor(high_res_image_size=size)
        assert str(caught.value) == (
            f"high_res_image_size must be a whole number of pixels from 1 to 8,192; got {size!r}."
        )
    with pytest.raises(TypeError, match="do_resize"):
        MiniGeminiImageProcessor(high_res_image_size=HIGH, low_res_image_size=LOW)(photo(2, 2), do_resize=False)


def test_no_images_and_too_long_images() -> None:
    processor: Any = MiniGeminiImageProcessor(high_res_image_size=HIGH, low_res_image_size=LOW)
    with pytest.raises(ImageError, match=r"^There are no images. Give at least one, or leave images out\.$"):
        processor([])
    with pytest.raises(ImageError) as caught:
        processor(Image.new("RGB", (1, 25_000)), image_aspect_ratio="square")
    assert str(caught.value) == (
        "A picture of 1×25000 pixels is too elongated to be scaled to a short edge of 64. "
        "Crop it, or use image_aspect_ratio='pad'."
    )
