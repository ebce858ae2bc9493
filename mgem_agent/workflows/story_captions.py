"""The prompt of a scene: what happens, then the looks of its characters, then the style.

Decisions that matter:

- **Code adds the looks**, in the same words each time: a reasoner would not repeat a coat's colour unchanged.
- **There is a token budget.** The CLIP encoders of Stable Diffusion read 77 tokens, two of them special. Looks and
  style are shortened by rules that do not depend on the scene, so that they are the same on every page. The scene gets
  the rest, at least `MIN_SCENE_TOKENS`.
- **Tokens are estimated** from letters, because the generator's tokenizer is not known here.
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
"""Default style of the pictures, by the kind of story."""

# In scripts that only multilingual encoders know, each letter is about one token.
DENSE = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
PIECE = regex.compile(rf"(?V1)(?={DENSE})\X|[\w--{DENSE}]+|[^\w\s]")


def estimate_tokens(text: str) -> int:
    """Estimate the number of tokens of a text.

    A sign, a short word or a letter of a script such as Chinese counts as one, a long word as more.
    """
    return sum(math.ceil(len(piece) / LETTERS_A_TOKEN) for piece in PIECE.findall(text))


def _cut(text: str, max_tokens: int) -> str:
    """Cut a text to a number of tokens: after a clause if one ends late enough, otherwise after a word.

    The result is never empty: it has at least one word, or the beginning of a word that is too long.
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
    """Compose the prompt of a scene.

    Args:
        caption: What the picture shows.
        characters: The characters in it.
        style: Style of every picture.

    Returns:
        A prompt of at most about 75 tokens; longer if many characters have long looks, which are never left out.
    """
    looks = [f"{each.name}: {_cut(each.looks, MAX_LOOKS_TOKENS)}" for each in characters if each.looks]
    ending = [*looks, _cut(style, MAX_STYLE_TOKENS)]
    left = MAX_TOKENS - sum(estimate_tokens(part) + 1 for part in ending if part)
    scene = _cut(caption, max(left, MIN_SCENE_TOKENS))
    return ". ".join(part for part in (scene, *ending) if part)


def find_characters(cast: Sequence[StoryCharacter], *texts: str, by_default: int = 0) -> tuple[str, ...]:
    """Find the characters that are named.

    Args:
        cast: All characters.
        *texts: Texts to search, the most reliable first; the first that names a character is used.
        by_default: If no text names a character, the first this many of the cast are used.
    """
    for text in texts:
        named = tuple(each.name for each in cast if _is_called(each.name, text))
        if named:
            return named
    return tuple(each.name for each in cast[:by_default])


def _is_called(name: str, text: str) -> bool:
    """Whether a text has a name, or the word of it that is used as a short form."""
    if is_named(name, text):
        return True
    parts = [part for part in NAME_BREAK.split(name.casefold()) if part not in NO_NAME_PARTS]
    return bool(parts) and len(parts[0]) > 1 and is_named(parts[0], text)


def scene_request(story: Story, scene: StoryScene) -> ImageRequest:
    """Make the image request of a scene.

    Every picture has the story's seed, because pictures from the same noise are similar in layout and colour. With
    `consistency="none"` each scene has its own seed, which follows from the story's seed and the scene's number. A
    revised scene may have a seed of its own, and is not drawn with its own earlier pictures as references.
    """
    recipe = story.recipe
    members = [each for each in story.cast if each.name in scene.characters]
    seed = story.seed
    if seed is not None and story.consistency == "none":
        seed = (seed + scene.index - 1) % 2**63
    if scene.seed is not None:
        seed = scene.seed
    return ImageRequest(
        prompt=compose_caption(scene.caption, members, story.style),
        negative_prompt=recipe.negative_prompt or None,
        width=recipe.width,
        height=recipe.height,
        seed=seed,
        num_inference_steps=recipe.steps,
        guidance_scale=recipe.guidance_scale,
        references=tuple(name for name in story.reference_ids if name not in scene.earlier_ids),
    )
