"""Pictures of things, cut to what is visible of them and scaled, kept for the next scene."""

from __future__ import annotations

import weakref
from collections import OrderedDict

from PIL import Image

from mgem_agent.recipes.nano.world.emoji import EmojiAssets

__all__ = ["Sprites"]

_MAX_BYTES = 96 * 2**20


class Sprites:
    """Scaled pictures of the things of one emoji set; the longest unused are dropped first.

    Args:
        assets: The emoji set.
    """

    _known: weakref.WeakKeyDictionary[EmojiAssets, Sprites] = weakref.WeakKeyDictionary()

    def __init__(self, assets: EmojiAssets) -> None:
        self._assets = weakref.proxy(assets)
        self._cut: dict[str, Image.Image] = {}
        self._scaled: OrderedDict[tuple[str, int, bool], Image.Image] = OrderedDict()
        self._num_bytes = 0

    @classmethod
    def of(cls, assets: EmojiAssets) -> Sprites:
        """Return the scaled pictures of an emoji set, which are kept as long as it is."""
        if assets not in cls._known:
            cls._known[assets] = cls(assets)
        return cls._known[assets]

    def scaled(self, concept: str, side_px: int, is_mirrored: bool) -> Image.Image:
        """Return a thing.

        Args:
            concept: Its name.
            side_px: Its longer side.
            is_mirrored: Whether left and right are exchanged.

        Returns:
            RGBA; shared, not to be changed.
        """
        key = (concept, side_px, is_mirrored)
        if key in self._scaled:
            self._scaled.move_to_end(key)
            return self._scaled[key]
        cut = self._cut_out(concept)
        factor = side_px / max(cut.size)
        size = (max(1, round(cut.width * factor)), max(1, round(cut.height * factor)))
        sprite = cut.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
        if is_mirrored:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        self._scaled[key] = sprite
        self._num_bytes += 4 * sprite.width * sprite.height
        while self._num_bytes > _MAX_BYTES:
            _, dropped = self._scaled.popitem(last=False)
            self._num_bytes -= 4 * dropped.width * dropped.height
        return sprite

    def _cut_out(self, concept: str) -> Image.Image:
        if concept not in self._cut:
            picture = self._assets.picture(concept)
            visible = picture.getchannel("A").point(lambda alpha: 255 if alpha > 8 else 0).getbbox()
            self._cut[concept] = picture.crop(visible) if visible else picture
        return self._cut[concept]
