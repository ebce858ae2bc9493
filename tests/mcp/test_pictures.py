"""Previews, and the size of results."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import ImageError
from mgem_agent.mcp.pictures import MAX_PREVIEW_BYTES, picture_facts, preview_bytes, shown_picture
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import ImageRequest, draw


def test_a_preview_keeps_the_shape_and_is_at_most_256_pixels() -> None:
    small = Image.open(io.BytesIO(preview_bytes(Image.new("RGB", (1000, 500), "teal"))))
    assert (small.format, small.size) == ("JPEG", (256, 128))


def test_a_small_picture_is_not_enlarged() -> None:
    assert Image.open(io.BytesIO(preview_bytes(Image.new("RGB", (40, 20), "teal")))).size == (40, 20)


def test_the_preview_of_noise_is_small_too() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    data = preview_bytes(Image.fromarray(noise))
    assert len(data) <= MAX_PREVIEW_BYTES and Image.open(io.BytesIO(data)).width >= 64


def test_facts_have_no_address_and_no_path(store: ArtifactStore) -> None:
    class Remote(FlatColourGenerator):
        @property
        def name(self) -> str:
            return "openai:m@http://10.0.0.7/v1"

    [*_, result] = draw(Remote(), [ImageRequest(prompt="a fox " * 1000, seed=7)])
    artifact = store.put(result)  # type: ignore[arg-type]
    facts = picture_facts(artifact).model_dump_json()
    assert "10.0.0.7" not in facts and str(store.root) not in facts
    shown = "".join(block.model_dump_json() for block in shown_picture(artifact, store))
    assert len(facts) + len(shown) < 50_000  # well under 25,000 tokens, even if each two characters were one


def test_a_damaged_picture_is_an_error(store: ArtifactStore) -> None:
    artifact = store.put_picture(Image.new("RGB", (32, 32)), origin="a test")
    store.path(artifact.id).write_bytes(b"not a picture")
    with pytest.raises(ImageError):
        shown_picture(artifact, store)
