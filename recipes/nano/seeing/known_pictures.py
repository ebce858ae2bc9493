"""Find out which pictures a trained model knows, and write it to the model's folder.

    python -m mgem_agent.recipes.nano known_pictures FOLDER

The score of a picture is how near its visual tokens are to the words of `visual_vocabulary`
(`core_model.familiarity`). The least score of a familiar picture is that which all but a few training scenes reach. No
other pictures are needed.
"""

from __future__ import annotations

from pathlib import Path

import torch

from mgem_agent.core_model.familiarity import Familiarity
from mgem_agent.nano import load_nano
from mgem_agent.recipes.nano.seeing.patch_labels import visual_vocabulary, word_embeds
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene import SceneKind, sample_scene
from mgem_agent.recipes.nano.world.scene_rendering import render_scene

__all__ = ["write_known_pictures"]

ANSWER = "I cannot tell what this shows."
"""The answer about an unknown picture."""
KINDS: tuple[SceneKind, ...] = ("any", "page", "several", "posed")
"""Kinds of scenes, in turn."""
_DOUBTED = 0.01
"""Fraction of training scenes that are not familiar enough."""
_AT_ONCE = 16


@torch.inference_mode()
def write_known_pictures(folder: Path, assets: EmojiAssets, *, num_scenes: int = 1000) -> Path:
    """Write the file of a model's folder that says which pictures it knows.

    Args:
        folder: A folder without the language model's own weights (`mgem train export --small`).
        assets: The emoji set.
        num_scenes: Number of training scenes.
    """
    model, processor = load_nano(folder=folder, exact=True)
    known = Familiarity(word_embeds(model, processor.tokenizer, visual_vocabulary()), -1.0, ANSWER)
    scores: list[float] = []
    for start in range(0, num_scenes, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, num_scenes))
        scenes = [sample_scene(0, number, kind=KINDS[number % len(KINDS)]) for number in numbers]
        drawn = [render_scene(scene, assets, size_px=model.config.high_res_image_size or 256) for scene in scenes]
        seen = model.get_image_features(**processor.image_processor(drawn, return_tensors="pt"))
        num_visual = model.config.geometry.num_visual_tokens
        scores += [known.score(tokens[:num_visual]) for tokens in seen.pooler_output or ()]
    least = torch.tensor(scores).quantile(_DOUBTED).item()
    return Familiarity(known.words, least, ANSWER).write(folder)
