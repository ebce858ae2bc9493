"""The held-out split by composition: some pairs occur only in held-out scenes.

A pair is a thing and its background, two things, a word and its colour, a shape and its colour, and so on. A stable
hash reserves one pair in twelve. A training scene has none of them, a held-out scene at least one. So a held-out scene
shows a new combination of known parts.
"""

from __future__ import annotations

import hashlib
import itertools

from mgem_agent.recipes.nano.world.scene_parts import Scene, SceneText

__all__ = ["belongs_to_split", "composition_pairs", "is_held_out_pair", "text_pair"]

_ONE_IN = 12


def is_held_out_pair(first: str, second: str) -> bool:
    """Return whether a pair is reserved for held-out scenes; the order does not matter."""
    text = "\n".join(sorted((first, second)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % _ONE_IN == 0


def text_pair(text: SceneText) -> tuple[str, str]:
    """Return the pair of a printed word: its text and its colours."""
    return f'"{text.text}"', f"ink {text.colour} on {text.plate}"


def composition_pairs(scene: Scene) -> set[tuple[str, str]]:
    """Return the pairs of a scene, each sorted."""
    pairs: set[tuple[str, str]] = set()
    concepts = sorted({thing.concept for thing in scene.objects})
    pairs.update(itertools.combinations(concepts, 2))
    pairs.update((concept, f"@{scene.background}") for concept in concepts)
    pairs.update(text_pair(text) for text in scene.texts)
    for shape in scene.shapes:
        pairs.add((f"shape {shape.shape}", f"{shape.colour} on {scene.background}"))
    if scene.chart is not None:
        parts = scene.chart.parts
        pairs.update((f"{scene.chart.kind} {a.label}", b.label) for a, b in itertools.pairwise(parts))
    if scene.surface is not None:
        first, second = scene.surface.colours
        pairs.add((f"surface {scene.surface.pattern}", f"{first} and {second}"))
    return {(min(pair), max(pair)) for pair in pairs}


def belongs_to_split(scene: Scene) -> bool:
    """Return whether the pairs of a scene fit its split."""
    has_held_out = any(is_held_out_pair(*pair) for pair in composition_pairs(scene))
    return has_held_out == (scene.split == "held_out")
