"""Redrawing a stored picture."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from PIL import Image

from mgem_agent.artifacts.comparison import SAME_PICTURE
from mgem_agent.artifacts.redrawing import is_recorded_as, recipe_of, redraw_picture
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import GenerationCancelledError, InputError
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import GenerationProgress, ImageRequest, ImageResult, draw


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


@pytest.fixture
def drawn(store: ArtifactStore) -> str:
    [*_, result] = draw(FlatColourGenerator(), [ImageRequest(prompt="a fox", seed=7)])
    assert isinstance(result, ImageResult)
    return store.put(result).id


def test_the_same_seed_gives_the_same_picture(store: ArtifactStore, drawn: str) -> None:
    steps: list[GenerationProgress] = []
    again = redraw_picture(drawn, store, FlatColourGenerator(), on_progress=steps.append)
    assert (again.artifact.id, again.comparison) == (drawn, SAME_PICTURE)
    assert [step.step for step in steps] == [1, 2, 3, 4]


def test_another_seed_gives_another_picture_and_keeps_the_first(store: ArtifactStore, drawn: str) -> None:
    again = redraw_picture(drawn, store, FlatColourGenerator(), seed=8)
    assert again.artifact.id != drawn and again.artifact.seed == 8
    assert again.comparison.startswith("another picture")
    assert store.get(drawn).seed == 7


def test_a_given_picture_cannot_be_redrawn(store: ArtifactStore) -> None:
    given = store.put_picture(Image.new("RGB", (32, 32)), origin="a file")
    with pytest.raises(InputError, match="no record of how it was drawn"):
        redraw_picture(given.id, store, FlatColourGenerator())


def test_a_seed_out_of_range_is_refused(store: ArtifactStore, drawn: str) -> None:
    with pytest.raises(InputError, match="seed is -1. Allowed: 0 to"):
        redraw_picture(drawn, store, FlatColourGenerator(), seed=-1)


def test_it_can_be_cancelled(store: ArtifactStore, drawn: str) -> None:
    cancel = threading.Event()
    with pytest.raises(GenerationCancelledError):
        redraw_picture(drawn, store, FlatColourGenerator(), cancel=cancel, on_progress=lambda step: cancel.set())


def test_a_record_names_a_generator_with_or_without_its_address(store: ArtifactStore, drawn: str) -> None:
    assert is_recorded_as("flat", recipe_of(drawn, store).generator)
    assert is_recorded_as("openai:m@http://10.0.0.7/v1", "openai:m")
    assert not is_recorded_as("openai:m", "openai:n")
