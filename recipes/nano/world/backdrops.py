"""Painting the backgrounds of scenes: a gradient, a horizon and a few soft details, varied by a seed.

Painting at twice the size and scaling down smooths the edges. A painter uses the same random numbers at every size, so
a scene looks the same at 128 and at 256 px.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from mgem_agent.recipes.nano.world.backgrounds import PLAIN_COLOURS, background_named

__all__ = ["paint_backdrop"]

RGB = tuple[int, int, int]
_SCALE = 2


class _Canvas:
    """A picture to paint on, in coordinates from 0 to 1, with its own random numbers.

    Args:
        seed: Seed of the random numbers.
        side_px: Side of the finished picture.
    """

    def __init__(self, seed: int, side_px: int) -> None:
        self.rng = random.Random(seed)
        self.side = side_px * _SCALE
        self.image = Image.new("RGB", (self.side, self.side))
        self.draw = ImageDraw.Draw(self.image)

    def vary(self, colour: RGB, amount: int = 10) -> RGB:
        """Return a slightly different colour."""
        shift = self.rng.randint(-amount, amount)
        red, green, blue = (max(0, min(255, part + shift + self.rng.randint(-4, 4))) for part in colour)
        return red, green, blue

    def gradient(self, top: RGB, bottom: RGB, start: float = 0.0, end: float = 1.0) -> None:
        """Fill a band with a vertical gradient."""
        first, last = round(start * self.side), round(end * self.side)
        steps = np.linspace(0.0, 1.0, max(last - first, 1), dtype=np.float32)[:, None]
        column = np.asarray(top, np.float32) * (1 - steps) + np.asarray(bottom, np.float32) * steps
        strip = Image.fromarray(column.round().astype(np.uint8)[:, None])
        self.image.paste(strip.resize((self.side, strip.height), Image.Resampling.NEAREST), (0, first))

    def ellipse(self, x: float, y: float, width: float, height: float, colour: RGB) -> None:
        """Fill an ellipse around a middle."""
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        self.draw.ellipse([part * self.side for part in box], fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: RGB) -> None:
        """Fill a rectangle."""
        self.draw.rectangle([part * self.side for part in (left, top, right, bottom)], fill=colour)

    def polygon(self, points: Sequence[tuple[float, float]], colour: RGB) -> None:
        """Fill a polygon."""
        self.draw.polygon([(x * self.side, y * self.side) for x, y in points], fill=colour)

    def hills(self, y: float, height: float, colour: RGB, waves: float = 1.5) -> None:
        """Fill everything below a wavy line."""
        phase, second = self.rng.uniform(0, 6.28), self.rng.uniform(0, 6.28)
        xs = np.linspace(0, 1, 40)
        ys = y - height * (0.65 * np.sin(xs * waves * 6.28 + phase) + 0.35 * np.sin(xs * waves * 13.5 + second)) / 2
        line = list(zip(xs.tolist(), ys.tolist(), strict=True))
        self.polygon([(0, 1.01), *line, (1, 1.01)], colour)

    def cloud(self, x: float, y: float, width: float, colour: RGB) -> None:
        """Paint a small cloud of ellipses."""
        for offset, size in ((-0.3, 0.45), (0.0, 0.62), (0.3, 0.42)):
            self.ellipse(x + offset * width, y - (size - 0.45) * width * 0.2, size * width, size * width * 0.62, colour)

    def finish(self) -> Image.Image:
        """Return the finished picture."""
        return self.image.reduce(_SCALE)


def _snow(canvas: _Canvas) -> None:
    rng = canvas.rng
    canvas.gradient(canvas.vary((168, 204, 236)), (226, 238, 248))
    horizon = rng.uniform(0.5, 0.6)
    canvas.hills(horizon, 0.1, canvas.vary((214, 228, 242), 5))
    canvas.hills(horizon + 0.12, 0.07, (238, 244, 250))
    canvas.hills(horizon + 0.25, 0.05, (250, 252, 254))
    for _ in range(36):
        size = rng.uniform(0.006, 0.016)
        canvas.ellipse(rng.random(), rng.random() * 0.9, size, size, (255, 255, 255))


def _beach(canvas: _Canvas) -> None:
    rng = canvas.rng
    horizon = rng.uniform(0.36, 0.44)
    canvas.gradient(canvas.vary((104, 186, 240)), (196, 230, 250), 0, horizon)
    canvas.gradient(canvas.vary((20, 132, 196)), (98, 208, 220), horizon, 1)
    shore = horizon + rng.uniform(0.17, 0.22)
    canvas.hills(shore, 0.03, (250, 252, 250), 1.2)
    canvas.rng.seed(rng.random())
    canvas.hills(shore + 0.035, 0.03, canvas.vary((244, 214, 158), 6), 1.2)
    for _ in range(26):
        canvas.ellipse(rng.random(), rng.uniform(shore + 0.1, 1), 0.012, 0.007, (228, 194, 134))
    canvas.cloud(rng.uniform(0.15, 0.85), rng.uniform(0.08, 0.2), rng.uniform(0.2, 0.32), (248, 252, 255))


def _forest(canvas: _Canvas) -> None:
    rng = canvas.rng
    canvas.gradient(canvas.vary((196, 224, 196)), (140, 184, 140), 0, 0.7)
    canvas.box(0, 0.68, 1, 1, (48, 92, 54))
    for layer, (colour, base, height) in enumerate(
        (((122, 168, 124), 0.6, 0.42), ((72, 128, 80), 0.66, 0.52), ((36, 92, 54), 0.72, 0.6))
    ):
        number = 9 - 2 * layer
        shade = canvas.vary(colour, 8)
        for tree in range(number + 1):
            x = (tree + rng.uniform(-0.25, 0.25)) / number
            top, width = base - height * rng.uniform(0.75, 1.05), 0.2 + 0.04 * layer
            canvas.box(x - 0.012, base - 0.1, x + 0.012, base + 0.03, (78, 58, 42))
            for step in range(3):
                y = top + (base - top) * (0.34 + 0.3 * step)
                half = width * (0.26 + 0.12 * step)
                canvas.polygon([(x, y - height * 0.36), (x - half, y), (x + half, y)], shade)
    canvas.hills(0.72, 0.03, canvas.vary((84, 134, 66), 8))
    canvas.hills(0.86, 0.03, canvas.vary((98, 150, 74), 8))


def _stars(canvas: _Canvas, number: int, lowest: float) -> None:
    rng = canvas.rng
    for _ in range(number):
        size, light = rng.choice((0.006, 0.008, 0.011, 0.016)), rng.randint(190, 255)
        canvas.ellipse(rng.random(), rng.random() * lowest, size, size, (light, light, min(255, light + 20)))


def _night_sky(canvas: _Canvas) -> None:
    rng = canvas.rng
    canvas.gradient(canvas.vary((14, 20, 62), 6), canvas.vary((62, 74, 140), 8))
    _stars(canvas, 46, 0.66)
    x, y = rng.choice((rng.uniform(0.1, 0.24), rng.uniform(0.76, 0.9))), rng.uniform(0.1, 0.2)
    canvas.ellipse(x, y, 0.13, 0.13, (250, 244, 212))
    canvas.ellipse(x - 0.02, y - 0.01, 0.03, 0.03, (232, 224, 186))
    canvas.hills(0.72, 0.1, canvas.vary((30, 42, 80), 5))
    canvas.hills(0.84, 0.07, canvas.vary((18, 30, 56), 5))


def _mixed(tint: RGB, share: float) -> RGB:
    """Return the colour of space mixed with another."""
    red, green, blue = (int(base + (goal - base) * share) for base, goal in zip((18, 10, 42), tint, strict=True))
    return red, green, blue


def _space(canvas: _Canvas) -> None:
    rng = canvas.rng
    canvas.gradient(canvas.vary((8, 6, 26), 4), canvas.vary((34, 16, 64), 8))
    for _ in range(5):  # a nebula: faint discs, the larger the fainter
        x, y, size = rng.random(), rng.random(), rng.uniform(0.3, 0.6)
        tint = rng.choice(((64, 30, 104), (30, 44, 112), (88, 30, 92)))
        for step in range(5):
            canvas.ellipse(x, y, size * (1 - step / 5), size * 0.7 * (1 - step / 5), _mixed(tint, 0.12 + 0.1 * step))
    _stars(canvas, 90, 1.0)
    x, y, size = rng.choice((0.1, 0.9)), rng.choice((0.12, 0.88)), rng.uniform(0.12, 0.2)
    colour = rng.choice(((196, 110, 84), (92, 148, 196), (168, 142, 196)))
    canvas.ellipse(x, y, size, size, colour)
    canvas.ellipse(
        x - size * 0.1,
        y - size * 0.12,
        size * 0.6,
        size * 0.5,
        canvas.vary((colour[0] + 24, colour[1] + 24, colour[2] + 24), 2),
    )


def _meadow(canvas: _Canvas) -> None:
    rng = canvas.rng
    horizon = rng.uniform(0.5, 0.58)
    canvas.gradient(canvas.vary((112, 190, 244)), (210, 236, 250), 0, horizon + 0.1)
    for _ in range(2):
        canvas.cloud(rng.random(), rng.uniform(0.08, 0.26), rng.uniform(0.2, 0.34), (250, 252, 255))
    canvas.hills(horizon, 0.1, canvas.vary((146, 204, 106), 6))
    canvas.hills(horizon + 0.1, 0.06, canvas.vary((118, 190, 82), 6))
    canvas.hills(horizon + 0.24, 0.05, canvas.vary((96, 174, 66), 6))
    for _ in range(22):
        x, y = rng.random(), rng.uniform(horizon + 0.2, 0.99)
        size = 0.008 + 0.014 * (y - horizon)
        canvas.ellipse(x, y, size, size, rng.choice(((255, 255, 255), (255, 226, 92), (250, 172, 196))))


def _desert(canvas: _Canvas) -> None:
    rng = canvas.rng
    canvas.gradient(canvas.vary((122, 194, 236)), (252, 232, 186))
    x = rng.choice((0.16, 0.84))
    canvas.ellipse(x, 0.15, 0.14, 0.14, (255, 244, 190))
    canvas.hills(rng.uniform(0.52, 0.58), 0.14, canvas.vary((232, 178, 104), 6), 0.8)
    canvas.hills(rng.uniform(0.66, 0.7), 0.12, canvas.vary((240, 194, 118), 6), 0.7)
    canvas.hills(0.84, 0.08, canvas.vary((248, 210, 138), 6), 0.9)


def _sea(canvas: _Canvas) -> None:
    rng = canvas.rng
    horizon = rng.uniform(0.36, 0.48)
    canvas.gradient(canvas.vary((120, 194, 246)), (214, 238, 252), 0, horizon)
    canvas.cloud(rng.random(), rng.uniform(0.08, 0.2), rng.uniform(0.22, 0.34), (250, 253, 255))
    canvas.gradient(canvas.vary((22, 96, 176)), canvas.vary((40, 154, 216)), horizon, 1)
    for _ in range(30):
        y = rng.uniform(horizon + 0.03, 0.99)
        width = 0.04 + 0.16 * (y - horizon)
        canvas.ellipse(rng.random(), y, width, 0.006 + 0.008 * (y - horizon), (120, 196, 236))


def _underwater(canvas: _Canvas) -> None:
    rng = canvas.rng
    canvas.gradient(canvas.vary((60, 190, 220)), canvas.vary((8, 62, 124)))
    for x in (rng.uniform(0, 0.3), rng.uniform(0.35, 0.65), rng.uniform(0.7, 1)):  # rays of light
        canvas.polygon([(x, 0), (x + 0.09, 0), (x - 0.12, 0.42)], canvas.vary((82, 196, 222), 4))
    canvas.hills(0.88, 0.06, canvas.vary((206, 186, 136), 8))
    for side in (rng.uniform(0.03, 0.1), rng.uniform(0.9, 0.97)):
        for step in range(7):
            canvas.ellipse(side + 0.018 * (-1) ** step, 0.88 - 0.05 * step, 0.04, 0.075, (40, 134, 92))
    for _ in range(16):
        size = rng.uniform(0.01, 0.03)
        canvas.ellipse(rng.random(), rng.random() * 0.85, size, size, (150, 222, 238))


def _city(canvas: _Canvas) -> None:
    rng = canvas.rng
    canvas.gradient(canvas.vary((150, 200, 238)), (226, 236, 244), 0, 0.8)
    for colour, low, high in (((176, 192, 212), 0.12, 0.34), ((116, 134, 164), 0.26, 0.5)):
        x = rng.uniform(-0.08, 0)
        while x < 1:
            width, top = rng.uniform(0.12, 0.2), rng.uniform(low, high)
            canvas.box(x, top, x + width, 0.84, canvas.vary(colour, 14))
            for row in range(5):
                for column in range(3):
                    left, up = x + width * (0.16 + 0.27 * column), top + 0.035 + 0.085 * row
                    canvas.box(
                        left,
                        up,
                        left + width * 0.15,
                        up + 0.04,
                        (250, 236, 178) if rng.random() < 0.5 else (206, 222, 238),
                    )
            x += width + rng.uniform(0.005, 0.02)
    canvas.gradient((146, 150, 158), (98, 102, 112), 0.82, 1)
    canvas.box(0, 0.8, 1, 0.83, (196, 198, 202))
    for column in range(4):
        canvas.box(0.05 + column * 0.28, 0.94, 0.17 + column * 0.28, 0.955, (240, 236, 214))


def _mountains(canvas: _Canvas) -> None:
    rng = canvas.rng
    canvas.gradient(canvas.vary((120, 182, 236)), (224, 238, 250))
    for centre, height, colour in (
        (0.22, 0.52, (122, 138, 166)),
        (0.78, 0.48, (112, 130, 160)),
        (0.5, 0.6, (92, 110, 144)),
    ):
        x, top = centre + rng.uniform(-0.06, 0.06), 0.72 - height * rng.uniform(0.9, 1.05)
        half = height * 0.72
        canvas.polygon([(x, top), (x - half, 0.74), (x + half, 0.74)], canvas.vary(colour, 8))
        cap = 0.3
        canvas.polygon(
            [(x, top), (x - half * cap, top + (0.74 - top) * cap), (x - half * 0.1, top + (0.74 - top) * 0.22),
             (x + half * 0.08, top + (0.74 - top) * 0.34), (x + half * cap, top + (0.74 - top) * cap)],
            (246, 250, 254),
        )  # fmt: skip
    canvas.hills(0.7, 0.06, canvas.vary((98, 150, 96), 8))
    canvas.hills(0.82, 0.05, canvas.vary((122, 176, 104), 8))


def _room(canvas: _Canvas) -> None:
    rng = canvas.rng
    wall = rng.choice(((244, 222, 196), (206, 222, 232), (226, 212, 232), (214, 230, 206)))
    floor = rng.uniform(0.68, 0.74)
    canvas.gradient(canvas.vary(wall, 5), canvas.vary(wall, 5), 0, floor)
    canvas.gradient((196, 146, 98), (160, 112, 70), floor, 1)
    for row in range(1, 4):
        y = floor + (1 - floor) * row / 4
        canvas.box(0, y, 1, y + 0.005, (146, 100, 62))
    canvas.box(0, floor - 0.025, 1, floor, (250, 248, 244))
    left = rng.choice((0.06, 0.66))
    canvas.box(left, 0.1, left + 0.28, 0.42, (252, 250, 246))
    canvas.box(left + 0.02, 0.12, left + 0.26, 0.4, (164, 212, 242))
    canvas.box(left + 0.13, 0.1, left + 0.15, 0.42, (252, 250, 246))
    canvas.box(left, 0.25, left + 0.28, 0.265, (252, 250, 246))
    other = 0.72 if left < 0.5 else 0.1
    canvas.box(other, 0.14, other + 0.18, 0.34, (150, 104, 66))
    canvas.box(other + 0.015, 0.155, other + 0.165, 0.325, canvas.vary((236, 170, 132), 30))
    canvas.ellipse(0.5, floor + 0.17, 0.9, 0.18, canvas.vary((196, 92, 92), 24))


def _sunset(canvas: _Canvas) -> None:
    rng = canvas.rng
    horizon = rng.uniform(0.6, 0.68)
    canvas.gradient(canvas.vary((96, 62, 138)), canvas.vary((250, 132, 80)), 0, horizon * 0.7)
    canvas.gradient((250, 132, 80), (255, 214, 116), horizon * 0.7, horizon + 0.05)
    x = rng.uniform(0.2, 0.8)
    canvas.ellipse(x, horizon - 0.06, 0.26, 0.26, (255, 224, 128))
    canvas.ellipse(x, horizon - 0.06, 0.22, 0.22, (255, 240, 176))
    for _ in range(3):
        canvas.ellipse(rng.random(), rng.uniform(0.12, 0.4), rng.uniform(0.3, 0.5), 0.025, (236, 118, 108))
    canvas.hills(horizon, 0.05, canvas.vary((110, 56, 84), 6))
    canvas.hills(horizon + 0.14, 0.05, canvas.vary((78, 40, 68), 6))


_PAINTERS: dict[str, Callable[[_Canvas], None]] = {
    "snow": _snow,
    "beach": _beach,
    "forest": _forest,
    "night sky": _night_sky,
    "space": _space,
    "meadow": _meadow,
    "desert": _desert,
    "sea": _sea,
    "underwater": _underwater,
    "city": _city,
    "mountains": _mountains,
    "room": _room,
    "sunset": _sunset,
}


def paint_backdrop(name: str, seed: int, side_px: int) -> Image.Image:
    """Paint a background.

    Args:
        name: Name of the background.
        seed: Seed of its details.
        side_px: Width and height.

    Returns:
        The picture, RGB.
    """
    canvas = _Canvas(seed, side_px)
    plain = background_named(name).colour
    if plain is None:
        _PAINTERS[name](canvas)
    else:
        top = canvas.vary(PLAIN_COLOURS[plain], 6)
        canvas.gradient(top, (max(0, top[0] - 12), max(0, top[1] - 12), max(0, top[2] - 12)))
    return canvas.finish()
