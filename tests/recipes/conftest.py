"""Stand-ins for the emoji pictures: drawn here, one for each concept, so that no test needs the network."""

import colorsys
import io

import pytest
from PIL import Image, ImageDraw

from mgem_agent.recipes.nano.world.concepts import load_concepts
from mgem_agent.recipes.nano.world.emoji import EmojiAssets


@pytest.fixture(scope="session")
def drawn_assets() -> EmojiAssets:
    concepts = load_concepts()
    pictures = {}
    for number, concept in enumerate(concepts):
        red, green, blue = colorsys.hsv_to_rgb(number / len(concepts), 0.9, 0.9)
        picture = Image.new("RGBA", (32, 32))
        ImageDraw.Draw(picture).ellipse((2, 2, 30, 30), fill=(int(255 * red), int(255 * green), int(255 * blue), 255))
        file = io.BytesIO()
        picture.save(file, "PNG")
        pictures[concept.name] = file.getvalue()
    return EmojiAssets(concepts, pictures)
