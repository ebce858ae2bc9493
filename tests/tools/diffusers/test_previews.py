"""Previews of unfinished pictures, by the tiny pipelines of every family."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mgem_agent.tools.diffusers.previews import PreviewDecoder
from mgem_agent.tools.image_result import GenerationProgress, ImageResult

FAMILIES = ("cascade", "flux", "klein", "kontext", "pixart", "sana", "schnell", "sd", "sd3", "sdxl", "wuerstchen")
NOT_SHOWN = {"cascade", "klein", "wuerstchen"}


def difference(first: Any, second: Any) -> float:
    return float(np.abs(np.asarray(first, dtype=int) - np.asarray(second, dtype=int)).mean())


def _events(generator: Any, requests: Any, num_previews: int) -> tuple[list[Any], list[ImageResult]]:
    events = list(generator.generate(requests, num_previews=num_previews))
    shown = [(each.index, each.step, each.preview) for each in events if isinstance(each, GenerationProgress)]
    return [each for each in shown if each[2] is not None], [each for each in events if isinstance(each, ImageResult)]


@pytest.mark.parametrize("family", FAMILIES)
def test_previews_come_in_the_size_of_the_picture_and_do_not_change_it(
    make_generator: Any, ask: Any, family: str
) -> None:
    generator = make_generator(family)
    able = generator.capabilities
    shown, [drawn] = _events(generator, [ask(family, num_inference_steps=4)], 3)
    assert able.previews == (family not in NOT_SHOWN)
    assert [step for _, step, _ in shown] == ([1, 2, 3] if able.previews else [])
    _, [plain] = _events(generator, [ask(family, num_inference_steps=4)], 0)
    assert drawn.error is None
    assert drawn.image is not None and plain.image is not None
    assert drawn.image.tobytes() == plain.image.tobytes()
    for _, _, preview in shown:
        assert isinstance(preview, Image.Image)
        assert (preview.mode, preview.size) == ("RGB", drawn.image.size)


@pytest.mark.parametrize("family", ["sdxl", "sd3", "pixart"])
def test_previews_approach_the_picture(make_generator: Any, ask: Any, family: str) -> None:
    shown, [drawn] = _events(make_generator(family), [ask(family, num_inference_steps=12)], 3)
    far = [difference(preview, drawn.image) for _, _, preview in shown]
    assert far[0] >= far[-1]


def test_only_the_callers_who_ask_get_previews_of_their_own_picture(make_generator: Any, ask: Any) -> None:
    generator = make_generator("sdxl")
    shown, results = _events(generator, [ask(seed=1, num_inference_steps=4), ask(seed=2, num_inference_steps=4)], 1)
    assert [(index, step) for index, step, _ in shown] == [(0, 2), (1, 2)]
    assert difference(shown[0][2], shown[1][2]) > 0
    assert len(results) == 2


def test_a_preview_that_fails_does_not_end_the_drawing(
    make_generator: Any, ask: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Any, latents: Any) -> Any:
        raise RuntimeError("no memory left")

    monkeypatch.setattr(PreviewDecoder, "_decoded", broken)
    with caplog.at_level(logging.WARNING):
        shown, [drawn] = _events(make_generator("sdxl"), [ask(num_inference_steps=2)], 1)
    assert not shown
    assert drawn.image is not None
    assert "RuntimeError: no memory left" in caplog.text
