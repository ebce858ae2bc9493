"""The benchmark of a generator's options, over the tiny pictures of a stand-in and over nano."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from mgem_agent.errors import GeneratorUnavailableError, InputError
from mgem_agent.recipes.bench import generator as bench
from mgem_agent.recipes.bench.generator import GeneratorOptions, bench_generator, default_variants
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import ImageResult


class Tinted(FlatColourGenerator):
    """Draws a grey card, lighter by `tint`."""

    def __init__(self, tint: int) -> None:
        super().__init__()
        self.tint = tint

    def generate(self, requests: Any, **options: Any) -> Any:
        from dataclasses import replace

        for event in super().generate(requests, **options):
            if isinstance(event, ImageResult) and event.image is not None:
                event = replace(event, image=Image.new("RGB", event.image.size, (100 + self.tint,) * 3))
            yield event


@pytest.fixture
def result(monkeypatch: pytest.MonkeyPatch) -> GeneratorOptions:
    def make(name: str, options: Any) -> Tinted:
        if "cache" in options:
            raise GeneratorUnavailableError("The option cache does not apply.")
        return Tinted(options.get("tint", 0))

    monkeypatch.setattr(bench, "_make", make)
    return bench_generator("diffusers:x", variants=[{"tint": 0}, {"tint": 5}, {"cache": "first_block"}], repeats=1)


def test_variants_are_compared_with_the_plain_pictures(result: GeneratorOptions) -> None:
    plain, same, other, refused = result.variants
    assert (plain.label, same.label, other.label) == ("plain", "tint=0", "tint=5")
    assert (same.psnr_db, same.max_difference) == (None, 0)
    assert other.max_difference == 5 and other.psnr_db == pytest.approx(34.15, abs=0.01)
    assert refused.problem == "The option cache does not apply." and refused.median_s is None
    assert all(len(each.seconds) == 1 for each in (plain, same, other))


def test_the_table_names_each_option_and_each_problem(result: GeneratorOptions) -> None:
    text = io.StringIO()
    Console(file=text, width=200).print(result.render())
    for words in ("plain", "tint=5", "34.2 dB", "max. of 255", "cache=first_block: The option cache does not apply."):
        assert words in text.getvalue()
    assert result.model_dump(mode="json")["variants"][1]["median_s"] > 0


def test_a_server_is_no_generator_of_this_machine() -> None:
    with pytest.raises(InputError, match="measures generators of this machine, and 'openai:x' is none"):
        bench_generator("openai:x")


def test_compiling_is_tried_by_default_on_a_gpu_only() -> None:
    assert {"compile": "blocks"} not in default_variants("cpu")
    assert {"compile": "blocks"} in default_variants("cuda")


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_nano_with_tiles() -> None:
    found = bench_generator("nano", variants=[{"vae_tiling": True}], number=1, num_steps=1, repeats=1)
    assert len(found.variants) == 2 and found.variants[0].median_s is not None
