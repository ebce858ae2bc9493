"""The tokenizer of nano's text encoders: transformers' `CLIPTokenizer` with a vocabulary of scene captions.

Only its vocabulary differs from the released one, so diffusers loads it like any other. Every byte is in the
vocabulary, so it can encode any caption.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from transformers import CLIPTokenizer

from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene import sample_scene
from mgem_agent.recipes.nano.world.scene_captions import caption

__all__ = ["train_caption_tokenizer"]

_NUM_CAPTIONS = 20_000


def train_caption_tokenizer(
    folder: str | Path, vocab_size: int, max_tokens: int, assets: EmojiAssets, *, num_captions: int = _NUM_CAPTIONS
) -> CLIPTokenizer:
    """Return the tokenizer of a folder; train it on captions first if the folder has none.

    Args:
        folder: Its folder.
        vocab_size: Maximum size of the vocabulary.
        max_tokens: Maximum tokens of a caption, with start and end.
        assets: The concepts; all their names and synonyms are included.
        num_captions: Number of captions to train on.
    """
    if not (Path(folder) / "tokenizer.json").is_file():
        plain = CLIPTokenizer(model_max_length=max_tokens)
        trained = plain.train_new_from_iterator(
            _captions(assets, num_captions), vocab_size=vocab_size, show_progress=False
        )
        trained.model_max_length = max_tokens
        trained.save_pretrained(str(folder))
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(str(folder))
    return tokenizer


def _captions(assets: EmojiAssets, num_captions: int) -> Iterator[str]:
    """Yield all names, and captions of every kind of scene."""
    for concept in assets.concepts:
        yield from (concept.name, *concept.synonyms)
    for index in range(num_captions):
        scene = sample_scene(1, index, kind="drawable" if index % 2 else "any")
        yield caption(scene, random.Random(index), style="rich" if index % 3 else "plain")
