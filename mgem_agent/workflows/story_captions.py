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

import regex

from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.workflows.story import Story, StoryCharacter, StoryScene
from mgem_agent.workflows.word_units import END_MARKS, cut_text, is_named, unit_ends

__all__ = ["DEFAULT_STYLES", "compose_caption", "estimate_tokens", "find_characters", "scene_request"]

MAX_TOKENS = 75
MAX_LOOKS_TOKENS = 18
MAX_STYLE_TOKENS = 14
MIN_SCENE_TOKENS = 24
LETTERS_A_TOKEN = 6
NAME_BREAK = re.compile(r"[\s·・‧•]+")
NO_NAME_PARTS = ("", "the", "a", "an", "mr", "mrs", "ms", "dr")

DEFAULT_STYLES = {
    "story": "children's book illustration, soft watercolour, warm light",
    "how_to": "clean flat illustration, bold outlines, plain background",
    "explainer": "friendly flat illustration, clear shapes, light background",
}
"""Style of the pictures where a recipe names none, by the kind of story."""

# A letter of a script that only encoders of many languages know makes about a token of its own.
DENSE = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
PIECE = regex.compile(rf"(?V1)(?={DENSE})\X|[\w--{DENSE}]+|[^\w\s]")


def estimate_tokens(text: str) -> int:
    """Tokens that an encoder makes of a text, about.

    One for a sign, a short word or a letter of a script such as Chinese, more for a long word.
    """
    return sum(math.ceil(len(piece) / LETTERS_A_TOKEN) for piece in PIECE.findall(text))


def _cut(text: str, max_tokens: int) -> str:
    """Cut a text to a number of tokens: after a part of a sentence where one ends late enough, else after a word.

    Something is always left: at least one word, or the beginning of a word that is too long.
    """
    text = " ".join(text.split())
    if estimate_tokens(text) <= max_tokens:
        return text.rstrip(" " + END_MARKS) or text
    cut, num_tokens = "", 0
    for end in unit_ends(text):
        num_tokens += estimate_tokens(text[len(cut) : end])
        if num_tokens > max_tokens:
            break
        cut = text[:end]
    cut = cut or cut_text(text, max_tokens * LETTERS_A_TOKEN)
    ends = [match.start() for match in re.finditer(rf"[{END_MARKS}]", cut)]
    if ends and ends[-1] > len(cut) / 2:
        cut = cut[: ends[-1]]
    return cut.rstrip(" " + END_MARKS) or cut


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
        named = tuple(each.name for each in cast if _is_called(each.name, text))
        if named:
            return named
    return tuple(each.name for each in cast[:by_default])


def _is_called(name: str, text: str) -> bool:
    """Whether a name is in a text, or the word of it by which one would be called."""
    if is_named(name, text):
        return True
    parts = [part for part in NAME_BREAK.split(name.casefold()) if part not in NO_NAME_PARTS]
    return bool(parts) and len(parts[0]) > 1 and is_named(parts[0], text)


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
