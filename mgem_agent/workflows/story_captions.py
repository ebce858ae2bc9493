"""What the generator is told of a scene: what happens, then the looks of those in it, then the style.

Decisions that matter:

- **Looks are put in by us**, in the same words each time; no reasoner repeats a coat's colour eight times unchanged.
- **There is a budget.** The CLIP encoders of Stable Diffusion read 77 tokens, of which 75 are words, and the last ones
  count least where a prompt is longer. Looks and style are shortened once, by rules that do not depend on the scene, so
  that they stay the same on every page; the scene gets what is left, and never less than `MIN_SCENE_TOKENS`.
- **Tokens are estimated** from letters: nobody knows here which tokenizer the generator has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.workflows.story import Story, StoryCharacter, StoryScene

__all__ = ["DEFAULT_STYLES", "compose_caption", "estimate_tokens", "find_characters", "scene_request"]

MAX_TOKENS = 75
MAX_LOOKS_TOKENS = 18
MAX_STYLE_TOKENS = 14
MIN_SCENE_TOKENS = 24
LETTERS_A_TOKEN = 6

DEFAULT_STYLES = {
    "story": "children's book illustration, soft watercolour, warm light",
    "how_to": "clean flat illustration, bold outlines, plain background",
    "explainer": "friendly flat illustration, clear shapes, light background",
}
"""Style of the pictures where a recipe names none, by the kind of story."""

PIECE = re.compile(r"\w+|[^\w\s]")


def estimate_tokens(text: str) -> int:
    """Tokens that CLIP makes of a text, about: one for a sign or a short word, more for a long word."""
    return sum(math.ceil(len(piece) / LETTERS_A_TOKEN) for piece in PIECE.findall(text))


def _cut(text: str, max_tokens: int) -> str:
    """Cut a text to a number of tokens: after a part of a sentence where one ends late enough, else after a word."""
    text = " ".join(text.split())
    if estimate_tokens(text) <= max_tokens:
        return text.rstrip(" .,;:")
    words: list[str] = []
    for word in text.split():
        if estimate_tokens(" ".join([*words, word])) > max_tokens:
            break
        words.append(word)
    cut = " ".join(words)
    ends = [match.start() for match in re.finditer(r"[,;.:]", cut)]
    if ends and ends[-1] > len(cut) / 2:
        cut = cut[: ends[-1]]
    return cut.rstrip(" .,;:")


def compose_caption(caption: str, characters: Sequence[StoryCharacter], style: str) -> str:
    """Put together what the generator is told.

    Args:
        caption: What the picture shows.
        characters: Who is in it.
        style: Of every picture.

    Returns:
        A caption of about 75 tokens at most, unless many with long looks are in it: looks are never left out.
    """
    looks = [f"{each.name}: {_cut(each.looks, MAX_LOOKS_TOKENS)}" for each in characters if each.looks]
    ending = [*looks, _cut(style, MAX_STYLE_TOKENS)]
    left = MAX_TOKENS - sum(estimate_tokens(part) + 1 for part in ending if part)
    scene = _cut(caption, max(left, MIN_SCENE_TOKENS))
    return ". ".join(part for part in (scene, *ending) if part)


def find_characters(cast: Sequence[StoryCharacter], *texts: str, by_default: int = 0) -> tuple[str, ...]:
    """Find who of the cast is named.

    Args:
        cast: Who may be.
        *texts: Where to look, the best place first: the first that names anybody counts.
        by_default: How many of the cast, from its first, are in where nobody is named.
    """
    for text in texts:
        words = {word.casefold().removesuffix("'s").removesuffix("’s") for word in re.findall(r"[\w'’]+", text)}
        named = tuple(each.name for each in cast if _is_named(each.name, words, text))
        if named:
            return named
    return tuple(each.name for each in cast[:by_default])


def _is_named(name: str, words: set[str], text: str) -> bool:
    """Whether a whole name is in a text, or the word of it by which one would be called."""
    parts = [part for part in name.casefold().split() if part not in ("the", "a", "an", "mr", "mrs", "ms", "dr")]
    if re.search(rf"(?<!\w){re.escape(name.casefold())}(?!\w)", text.casefold()):
        return True
    return bool(parts) and parts[0] in words and len(parts[0]) > 1


def scene_request(story: Story, scene: StoryScene) -> ImageRequest:
    """Make the image request of a scene.

    Seeds: every picture of a story has the story's seed, because what a diffusion model makes of the same noise is
    alike in layout and colour; with `consistency="none"` each has its own, the story's and its place after it.
    """
    recipe = story.recipe
    members = [each for each in story.cast if each.name in scene.characters]
    seed = story.seed
    if seed is not None and story.consistency == "none":
        seed = (seed + scene.index - 1) % 2**63
    return ImageRequest(
        prompt=compose_caption(scene.caption, members, story.style),
        negative_prompt=recipe.negative_prompt or None,
        width=recipe.width,
        height=recipe.height,
        seed=seed,
        num_inference_steps=recipe.steps,
        guidance_scale=recipe.guidance_scale,
        references=story.reference_ids,
    )
