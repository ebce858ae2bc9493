"""How a story keeps its pictures consistent, depending on what the generator supports."""

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
    """Choose how pictures are kept consistent.

    `auto` selects the first of `reference`, `ip_adapter` and `seed+card` that the generator supports. Without seeds,
    `seed+card` only repeats the looks in every caption.

    Args:
        recipe: Recipe of the story.
        capabilities: What the generator supports.
        generator: Name of the generator, for messages.

    Raises:
        UnsupportedRequestError: If the generator does not support what the recipe asks for.
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
            f"The recipe has {len(recipe.references)} reference picture(s); generator {generator!r} takes at most "
            f"{capabilities.max_references}. Remove some from `references`, or use another generator.",
            arguments=("references",),
        )
    asked = recipe.consistency
    if asked == "auto":
        best: list[Consistency] = [way for way in able if able[way]]
        return best[0] if best else "seed+card"
    if not able.get(asked, True):
        allowed = ", ".join(repr(way) for way in ("auto", *(way for way in able if able[way]), "none"))
        raise UnsupportedRequestError(
            f"consistency={asked!r} needs {NEEDS[asked]}; {generator!r} is not one. Allowed with it: {allowed}.",
            arguments=("consistency",),
        )
    return asked
