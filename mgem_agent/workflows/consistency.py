"""How the pictures of a story are kept alike, by what its generator can do."""

from __future__ import annotations

from mgem_agent.errors import UnsupportedRequestError
from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.workflows.story_recipe import Consistency, StoryRecipe

__all__ = ["choose_consistency"]

NEEDS: dict[Consistency, str] = {
    "reference": "a generator that takes reference pictures",
    "ip_adapter": "a generator with an IP-Adapter on (diffusers: options ip_adapter and ip_adapter_weight_name)",
    "seed+card": "a generator that takes seeds",
}


def choose_consistency(recipe: StoryRecipe, capabilities: Capabilities, *, generator: str) -> Consistency:
    """Choose how pictures are kept alike.

    `auto` is the first that the generator can of `reference`, `ip_adapter` and `seed+card`; where it takes no seeds
    either, the words of the looks alone are repeated, which `seed+card` then comes to.

    Args:
        recipe: Of the story.
        capabilities: Of the generator.
        generator: Its name, for messages.

    Raises:
        UnsupportedRequestError: If the recipe asks for what the generator cannot do.
    """
    shows = capabilities.max_references > 0
    wears_adapter = "ip_adapter_scale" in capabilities.options
    able: dict[Consistency, bool] = {
        "reference": shows and not wears_adapter,
        "ip_adapter": shows and wears_adapter,
        "seed+card": capabilities.seed,
    }
    if len(recipe.references) > capabilities.max_references:
        raise UnsupportedRequestError(
            f"The recipe has {len(recipe.references)} reference picture(s), and generator {generator!r} takes "
            f"{capabilities.max_references}. Leave some out of `references`, or take another generator.",
            arguments=("references",),
        )
    asked = recipe.consistency
    if asked == "auto":
        best: list[Consistency] = [way for way in able if able[way]]
        return best[0] if best else "seed+card"
    if not able.get(asked, True):
        allowed = ", ".join(repr(way) for way in ("auto", *(way for way in able if able[way]), "none"))
        raise UnsupportedRequestError(
            f"consistency={asked!r} needs {NEEDS[asked]}, and {generator!r} is none. With it take one of {allowed}.",
            arguments=("consistency",),
        )
    return asked
