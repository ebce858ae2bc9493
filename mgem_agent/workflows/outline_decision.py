"""A person's decision about an outline, before the pages are written and drawn."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mgem_agent.errors import InputError
from mgem_agent.workflows.story import Story, StoryCharacter
from mgem_agent.workflows.story_text import split_title

__all__ = ["OutlineDecision", "apply_outline_decision", "read_outline_decision"]


class OutlineDecision(BaseModel):
    """A decision about an outline.

    Attributes:
        verdict: Whether the story continues.
        title: New title; None to keep the current one.
        outline: New lines, one for each scene: a sentence, or a title, a colon and a sentence. None to keep the
            current ones.
        cast: New cast; None to keep the current one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Literal["approve", "refuse"] = "approve"
    title: str | None = Field(default=None, min_length=1, max_length=300)
    outline: tuple[str, ...] | None = None
    cast: tuple[StoryCharacter, ...] | None = None


def read_outline_decision(decision: OutlineDecision | str) -> OutlineDecision:
    """Read a decision from a word.

    Raises:
        InputError: If it is not a decision.
    """
    if isinstance(decision, OutlineDecision):
        return decision
    if decision not in ("approve", "refuse"):
        raise InputError(
            f"{decision!r} is not a decision. Allowed: 'approve', 'refuse', or an OutlineDecision with edits."
        )
    return OutlineDecision(verdict="approve" if decision == "approve" else "refuse")


def apply_outline_decision(story: Story, decision: OutlineDecision) -> dict[str, Any]:
    """Return the fields of a story that a decision changes.

    Raises:
        InputError: If the edited outline does not have one non-empty line for each scene.
    """
    if decision.verdict == "refuse":
        return {"state": "refused"}
    changes: dict[str, Any] = {"state": "telling"}
    if decision.title is not None:
        changes["title"] = decision.title
    if decision.cast is not None:
        changes["cast"] = decision.cast
    if decision.outline is not None:
        lines = [" ".join(line.split()) for line in decision.outline]
        if len(lines) != len(story.scenes) or not all(lines):
            raise InputError(
                f"The edited outline has {sum(map(bool, lines))} non-empty lines; the story has {len(story.scenes)} "
                f"scenes. Give one line for each scene."
            )
        scenes = []
        for scene, line in zip(story.scenes, lines, strict=True):
            title, summary = split_title(line)
            same = line in (scene.summary, f"{scene.title}: {scene.summary}")
            scenes.append(scene if same else scene.model_copy(update={"title": title, "summary": summary}))
        changes["scenes"] = tuple(scenes)
    return changes
