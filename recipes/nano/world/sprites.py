"""Pictures of things, cropped to their visible part and scaled, in a cache."""

from __future__ import annotations

import weakref
from collections import OrderedDict

from PIL import Image

from mgem_agent.recipes.nano.world.emoji import EmojiAssets

__all__ = ["Sprites"]

_MAX_BYTES = 96 * 2**20


class Sprites:
    """Scaled pictures of the things of one emoji set; the least recently used are dropped first.

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
        """Return the cache of an emoji set, which lives as long as the set."""
        if assets not in cls._known:
            cls._known[assets] = cls(assets)
        return cls._known[assets]

    def scaled(self, concept: str, side_px: int, is_mirrored: bool) -> Image.Image:
        """Return the picture of a thing.

        Args:
            concept: Its name.
            side_px: Its longer side.
            is_mirrored: Whether left and right are swapped.

        Returns:
            RGBA; shared, so do not change it.
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
