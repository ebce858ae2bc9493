"""The layout of a scene, as more channels of its latents."""

import math

import pytest
import torch

from mgem_agent.recipes.nano.drawing.autoencoder import AutoencoderConfig, make_autoencoder
from mgem_agent.recipes.nano.drawing.cell_tokenizer import CellGrid, cell_tokenizer
from mgem_agent.recipes.nano.drawing.layout_latents import (
    caption_order,
    encode_looks,
    layout_latents,
    with_layout_channels,
)
from mgem_agent.recipes.nano.drawing.vocabulary import nano_vocabulary
from mgem_agent.recipes.nano.world.scene import Scene, SceneObject

LEFT, RIGHT = SceneObject("fox", 0.25, 0.5, 0.5), SceneObject("cat", 0.75, 0.5, 0.5)


def scene(*objects: SceneObject) -> Scene:
    return Scene(seed=0, background="meadow", layout="two", objects=objects)


def order(caption: str, *objects: SceneObject) -> dict[str, float]:
    grid, vocabulary = CellGrid(), nano_vocabulary()
    tokens = cell_tokenizer(vocabulary, grid)(caption)["input_ids"]
    return caption_order(scene(*objects), tokens, grid, [thing.name for thing in vocabulary.things])


@pytest.mark.parametrize(
    ("caption", "objects", "expected"),
    [
        ("a fox and a cat in a meadow", (LEFT, RIGHT), {"fox": -1, "cat": 1}),
        ("a cat to the right of a fox", (LEFT, RIGHT), {"cat": -1, "fox": 1}),
        ("two foxes", (LEFT, SceneObject("fox", 0.75, 0.5, 0.5)), {"fox": 0}),
    ],
)
def test_things_have_the_order_of_the_caption(caption, objects, expected):
    assert order(caption, *objects) == expected


def test_a_position_says_which_part_of_which_thing_it_shows(drawn_assets):
    layout = layout_latents(scene(LEFT, RIGHT), {"fox": -1, "cat": 1}, drawn_assets, 32)
    assert layout.shape == (6, 32, 32)
    across, twice_across, down, twice_down, covered, which = layout
    for thing, value in ((LEFT, -1), (RIGHT, 1)):
        row, column = 16, round(thing.x * 32)  # just right of and below the middle
        assert covered[row, column] == 1
        assert which[row, column] == value
        for once, twice in ((across, twice_across), (down, twice_down)):
            part = 0.5 + 0.5 / 16
            assert once[row, column] == pytest.approx(math.cos(math.pi * part), abs=1e-5)
            assert twice[row, column] == pytest.approx(math.cos(2 * math.pi * part), abs=1e-5)
    assert covered[0].max() == -1
    assert abs(layout[:4, 0]).max() == abs(which[0]).max() == 0


def test_the_thing_in_front_hides_the_other(drawn_assets):
    front = SceneObject("cat", 0.25, 0.5, 0.5)
    layout = layout_latents(scene(LEFT, front), {"fox": -1, "cat": 1}, drawn_assets, 32)
    assert layout[5, 16, 8] == 1


def test_more_channels_change_no_picture():
    old = make_autoencoder(AutoencoderConfig(channels=8, latent_channels=3)).eval()
    wide = with_layout_channels(old)
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latents = old.encode(pixels).latents
        assert torch.equal(encode_looks(wide, pixels), latents)
        layout = torch.randn(2, 6, *latents.shape[2:], generator=torch.Generator().manual_seed(1))
        drawn = wide.decode(torch.cat([latents, layout], 1)).sample
    torch.testing.assert_close(drawn, old.decode(latents).sample)
