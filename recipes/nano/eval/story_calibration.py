"""Stories of a drawn cast with known answers, to check that the measures of stories tell right casts from wrong ones.

Each shot shows emoji on a plain ground. `drawn` has the right cast; in `shuffled`, every character is replaced by
another one of the cast, in the same places.
"""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image

from mgem_agent.recipes.eval.story.vistory import VistoryCharacter, VistoryShot, VistoryStory, write_story
from mgem_agent.recipes.nano.world.backgrounds import PLAIN_COLOURS
from mgem_agent.recipes.nano.world.emoji import EmojiAssets

__all__ = ["CAST", "calibration_stories", "draw_calibration"]

CAST = ("fox", "frog", "penguin")
"""The characters: animals that differ in shape and colour."""

_SIZE_PX = 256
_NUM_SHOTS = 6


def calibration_stories(folder: Path, assets: EmojiAssets, num: int = 1, seed: int = 0) -> list[VistoryStory]:
    """Write stories in ViStoryBench's form, and return them.

    Args:
        folder: Folder of the data set.
        assets: The emoji set.
        num: Number of stories.
        seed: Seed of the shots.
    """
    stories = []
    for number in range(1, num + 1):
        rng = random.Random(f"{seed}/{number}")
        characters = {name: _character(name, folder / "references", assets) for name in CAST}
        shots = []
        for _ in range(_NUM_SHOTS):
            shown = tuple(rng.sample(CAST, rng.choice((1, 2))))
            ground = rng.choice(list(PLAIN_COLOURS))
            names = " and ".join(f"a {name}" for name in shown)
            shots.append(VistoryShot(f"{names} meet", f"a plain {ground} ground", shown, names, "medium shot"))
        story = VistoryStory(f"{number:02d}", "Drawn casts", tuple(shots), characters)
        write_story(story, folder / "ViStory")
        stories.append(story)
    return stories


def draw_calibration(
    story: VistoryStory, folder: Path, assets: EmojiAssets, *, shuffled: bool, seed: int = 0
) -> list[Path]:
    """Draw the shots of a story, and return the files.

    Args:
        story: A story of `calibration_stories`.
        folder: Folder of the pictures.
        assets: The emoji set.
        shuffled: Whether to show the next character of the cast in the place of each.
        seed: Seed of the places; the same for both.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"{seed}/{story.id}")
    files = []
    for number, shot in enumerate(story.shots):
        ground = PLAIN_COLOURS[shot.scene.split()[2]]
        page = Image.new("RGB", (_SIZE_PX, _SIZE_PX), ground)
        for place, name in enumerate(shot.characters):
            shown = CAST[(CAST.index(name) + 1) % len(CAST)] if shuffled else name
            side = rng.randint(100, 120)
            left = rng.randint(0, 10) + place * (_SIZE_PX // 2)
            _paste(page, assets.picture(shown), side, (left, rng.randint(20, _SIZE_PX - side - 10)))
        file = folder / f"{number:02d}.png"
        page.save(file)
        files.append(file)
    return files


def _character(name: str, folder: Path, assets: EmojiAssets) -> VistoryCharacter:
    """Return a character with two reference pictures: on white, and smaller on another ground."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, (ground, side) in enumerate((("white", 200), ("yellow", 150))):
        picture = Image.new("RGB", (_SIZE_PX, _SIZE_PX), PLAIN_COLOURS[ground])
        _paste(picture, assets.picture(name), side, ((_SIZE_PX - side) // 2, (_SIZE_PX - side) // 2))
        file = folder / f"{name}-{number}.png"
        picture.save(file)
        files.append(file)
    return VistoryCharacter(name, name, f"a {name}", "animal", tuple(files))


def _paste(page: Image.Image, sprite: Image.Image, side: int, place: tuple[int, int]) -> None:
    small = sprite.resize((side, side), Image.Resampling.LANCZOS)
    page.paste(small, place, small)
