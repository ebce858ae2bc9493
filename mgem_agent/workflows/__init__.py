"""Workflows over the agent: turns composed into what people ask for, each a row of the paper's Figures 6 and 10.

Nothing heavy is imported until a name is used.
"""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.workflows.story import Story, StoryCharacter, StoryScene, read_story
    from mgem_agent.workflows.story_recipe import CharacterRecipe, SceneRecipe, StoryRecipe, load_story_recipe

__all__ = [
    "CharacterRecipe",
    "SceneRecipe",
    "Story",
    "StoryCharacter",
    "StoryRecipe",
    "StoryScene",
    "load_story_recipe",
    "read_story",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "CharacterRecipe": "mgem_agent.workflows.story_recipe",
        "SceneRecipe": "mgem_agent.workflows.story_recipe",
        "Story": "mgem_agent.workflows.story",
        "StoryCharacter": "mgem_agent.workflows.story",
        "StoryRecipe": "mgem_agent.workflows.story_recipe",
        "StoryScene": "mgem_agent.workflows.story",
        "load_story_recipe": "mgem_agent.workflows.story_recipe",
        "read_story": "mgem_agent.workflows.story",
    },
)
