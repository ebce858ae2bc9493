"""Backgrounds of scenes: sceneries and plain colours, and the words for them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BACKGROUNDS", "PLAIN_COLOURS", "SCENERY", "Background", "background_named"]


@dataclass(frozen=True)
class Background:
    """A background.

    Args:
        name: Short noun, such as "beach", or "plain blue".
        phrases: Phrases that follow a noun: "on a beach".
        has_ground: Whether things stand on the ground and cast a shadow.
        colour: Its colour, if it is plain.
    """

    name: str
    phrases: tuple[str, ...]
    has_ground: bool = True
    colour: str | None = None


PLAIN_COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (246, 246, 246),
    "blue": (126, 176, 236),
    "green": (142, 208, 140),
    "yellow": (250, 222, 110),
    "pink": (248, 178, 200),
    "grey": (160, 164, 170),
}
"""Plain backgrounds: their colour in words and in RGB."""

SCENERY: tuple[Background, ...] = (
    Background("snow", ("in the snow", "on a snowy field", "in a snowy landscape")),
    Background("beach", ("on a beach", "at the beach", "on the sand by the sea")),
    Background("forest", ("in a forest", "in the woods", "among the trees")),
    Background("night sky", ("at night", "under a starry sky", "on a hill at night")),
    Background("space", ("in space", "in outer space", "among the stars in space"), has_ground=False),
    Background("meadow", ("in a meadow", "on green grass", "on a grassy field")),
    Background("desert", ("in the desert", "on sand dunes", "in a hot desert")),
    Background("sea", ("on the sea", "on the ocean", "on blue water"), has_ground=False),
    Background("underwater", ("under water", "under the sea", "deep in the ocean"), has_ground=False),
    Background("city", ("in a city", "on a city street", "in front of tall buildings")),
    Background("mountains", ("in the mountains", "in front of mountains", "before high mountains")),
    Background("room", ("in a room", "inside a room", "indoors")),
    Background("sunset", ("at sunset", "in front of a sunset", "under an orange evening sky")),
)
"""Backgrounds that are not plain."""

_PLAIN = tuple(
    Background(
        f"plain {colour}",
        (f"on a plain {colour} background", f"on a {colour} background", f"in front of a {colour} wall"),
        has_ground=False,
        colour=colour,
    )
    for colour in PLAIN_COLOURS
)

BACKGROUNDS: tuple[Background, ...] = (*SCENERY, *_PLAIN)
"""All backgrounds: scenery first, then the plain ones."""

_BY_NAME = {background.name: background for background in BACKGROUNDS}


def background_named(name: str) -> Background:
    """Return a background by its name; raise a KeyError if there is none."""
    return _BY_NAME[name]
