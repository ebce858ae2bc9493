"""Tell the stories of `mgem bench story`, which recipes cannot, because they do not import workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mgem_agent.recipes.bench.story import StoryPlan

__all__ = ["tell_story"]


def tell_story(plan: StoryPlan) -> int:
    """Tell a story, and return the number of its pictures.

    Args:
        plan: The story.
    """
    from mgem_agent.artifacts.store import ArtifactStore
    from mgem_agent.workflows.story_recipe import SceneRecipe, StoryRecipe
    from mgem_agent.workflows.storytelling import Storyteller

    scenes = tuple(
        SceneRecipe(title=f"Door {page}", text=f"The mouse opens door {page}.", caption=f"a mouse at door {page}")
        for page in range(1, plan.num_scenes + 1)
    )
    recipe = (
        StoryRecipe(title="The key", kind="explainer", scenes=scenes)
        if plan.is_given
        else StoryRecipe(premise="A mouse finds a key.", scenes=plan.num_scenes)
    )
    teller = Storyteller(
        plan.reasoner, plan.generator, ArtifactStore(plan.folder / "images"), folder=plan.folder, overlap=plan.overlap
    )
    return sum(scene.status == "drawn" for scene in teller.run(recipe).scenes)
