"""The tokenizer of small text encoders: CLIP's own kind, with a vocabulary made of scene captions.

It is transformers' `CLIPTokenizer` and differs from the released one in its pieces alone, so that a diffusers folder
that holds it is an ordinary one. Every byte is in the vocabulary: no caption, in whatever language, is refused.
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
    """Return the tokenizer of a folder, made of captions and written there if there is none yet.

    Args:
        folder: Where it stands.
        vocab_size: Pieces at most.
        max_tokens: Longest caption, with its beginning and end.
        assets: The concepts, whose names and synonyms all come in.
        num_captions: Captions that it is made of.
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
    """Yield every name that there is, and captions of every kind of scene."""
    for concept in assets.concepts:
        yield from (concept.name, *concept.synonyms)
    for index in range(num_captions):
        scene = sample_scene(1, index, kind="drawable" if index % 2 else "any")
        yield caption(scene, random.Random(index), style="rich" if index % 3 else "plain")
