"""Workflows of one or more agent turns, each a row of the paper's Figures 6 and 10.

Five are modules with `run`, which returns turns, and `stream`, which yields the agent's events:
`from mgem_agent.workflows import direct, in_context, multi_round, reasoning, recaption`. The sixth writes stories:
`Storyteller`, `tell_story`. Heavy packages are imported only when a name is used.
"""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.workflows.outline_decision import OutlineDecision
    from mgem_agent.workflows.story import Story, StoryCharacter, StoryScene, read_story
    from mgem_agent.workflows.story_events import (
        ApprovalNeeded,
        OutlineReady,
        PageScored,
        SceneWritten,
        StoryEvent,
        StoryFinished,
        StoryStopped,
        StoryText,
    )
    from mgem_agent.workflows.story_recipe import CharacterRecipe, SceneRecipe, StoryRecipe, load_story_recipe
    from mgem_agent.workflows.story_revision import PageRevision
    from mgem_agent.workflows.storytelling import Storyteller, tell_story

__all__ = [
    "ApprovalNeeded",
    "CharacterRecipe",
    "OutlineDecision",
    "OutlineReady",
    "PageRevision",
    "PageScored",
    "SceneRecipe",
    "SceneWritten",
    "Story",
    "StoryCharacter",
    "StoryEvent",
    "StoryFinished",
    "StoryRecipe",
    "StoryScene",
    "StoryStopped",
    "StoryText",
    "Storyteller",
    "load_story_recipe",
    "read_story",
    "tell_story",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "ApprovalNeeded": "mgem_agent.workflows.story_events",
        "CharacterRecipe": "mgem_agent.workflows.story_recipe",
        "OutlineDecision": "mgem_agent.workflows.outline_decision",
        "OutlineReady": "mgem_agent.workflows.story_events",
        "PageRevision": "mgem_agent.workflows.story_revision",
        "SceneRecipe": "mgem_agent.workflows.story_recipe",
        "PageScored": "mgem_agent.workflows.story_events",
        "SceneWritten": "mgem_agent.workflows.story_events",
        "Story": "mgem_agent.workflows.story",
        "StoryCharacter": "mgem_agent.workflows.story",
        "StoryEvent": "mgem_agent.workflows.story_events",
        "StoryFinished": "mgem_agent.workflows.story_events",
        "StoryRecipe": "mgem_agent.workflows.story_recipe",
        "StoryScene": "mgem_agent.workflows.story",
        "StoryStopped": "mgem_agent.workflows.story_events",
        "StoryText": "mgem_agent.workflows.story_events",
        "Storyteller": "mgem_agent.workflows.storytelling",
        "load_story_recipe": "mgem_agent.workflows.story_recipe",
        "read_story": "mgem_agent.workflows.story",
        "tell_story": "mgem_agent.workflows.storytelling",
    },
)
