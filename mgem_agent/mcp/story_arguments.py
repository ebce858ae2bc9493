"""The arguments of the tools that tell a story."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from mgem_agent.mcp.books import Approval
from mgem_agent.tools.tool_arguments import ToolArguments
from mgem_agent.workflows.recipe_options import validated_recipe
from mgem_agent.workflows.story_recipe import CharacterRecipe, SceneRecipe, StoryKind, StoryRecipe

__all__ = ["ContinueCall", "StatusCall", "TellCall"]

MAX_WAIT_S = 600
RECIPE_NAMES = {"num_inference_steps": "steps"}
RECIPE_FIELDS = ("premise", "title", "kind", "audience", "language", "style", "cast", "seed", "width", "height")

BookId = Annotated[str, Field(description="Id of the book (book-…).")]
WaitSeconds = Annotated[
    float,
    Field(
        ge=0,
        le=MAX_WAIT_S,
        description="Seconds to wait for the book; then its state is returned, and it goes on in the background.",
    ),
]
BookBudget = Annotated[
    str | None,
    Field(
        description="Limits of the whole book, such as 1usd,30pictures,20min. At a limit it stops; with a larger "
        "limit it can be continued. The server's own limits hold, too.",
        max_length=200,
    ),
]


class TellCall(ToolArguments):
    """Arguments of `tell_story`."""

    premise: Annotated[str, Field(description="What the story is about; may be empty if `scenes` are given.")] = ""
    title: Annotated[str | None, Field(description="Title of the book; leave out to have it written.")] = None
    num_scenes: Annotated[int | None, Field(description="Number of pages, 1 to 64; 6 by default.")] = None
    scenes: Annotated[
        list[SceneRecipe] | None,
        Field(description="The pages, if you write them yourself: each with a title, a text or a caption."),
    ] = None
    cast: Annotated[
        list[CharacterRecipe] | None, Field(description="Recurring characters, so that they look the same.")
    ] = None
    kind: Annotated[StoryKind | None, Field(description="A story, a how-to or an explainer.")] = None
    style: Annotated[str | None, Field(description="Style of every picture.")] = None
    audience: Annotated[str | None, Field(description="The intended readers.")] = None
    language: Annotated[str | None, Field(description="Language of the text, such as en or de.")] = None
    seed: Annotated[int | None, Field(description="Seed of the pictures.")] = None
    width: Annotated[int | None, Field(description="Width of each picture in pixels.")] = None
    height: Annotated[int | None, Field(description="Height of each picture in pixels.")] = None
    generator: Annotated[str | None, Field(description="Name of the generator; leave out for the default.")] = None
    approve: Annotated[
        Approval | None,
        Field(description="What a person approves: none, the outline before drawing, or the outline and each page."),
    ] = None
    budget: BookBudget = None
    wait_s: WaitSeconds = 45

    def recipe(self, defaults: Mapping[str, Any]) -> StoryRecipe:
        """Return the recipe.

        Args:
            defaults: Values for fields of image requests that the call does not set.

        Raises:
            InputError: If a field is out of range, or there is neither a premise nor scenes.
        """
        known = {RECIPE_NAMES.get(name, name): value for name, value in defaults.items()}
        fields = {name: value for name, value in known.items() if name in StoryRecipe.model_fields}
        given = self.model_dump(include=set(RECIPE_FIELDS), exclude_none=True)
        scenes = self.scenes if self.scenes is not None else self.num_scenes
        return validated_recipe({**fields, **given, **({} if scenes is None else {"scenes": scenes})})


class StatusCall(ToolArguments):
    """Arguments of `story_status`."""

    book: BookId
    wait_s: WaitSeconds = 0


class ContinueCall(ToolArguments):
    """Arguments of `story_continue`."""

    book: BookId
    decision: Annotated[
        Literal["approve", "refuse"] | None,
        Field(description="The person's decision about the outline or the page that waits; leave out to ask them."),
    ] = None
    title: Annotated[str | None, Field(description="For an outline: a new title.")] = None
    outline: Annotated[list[str] | None, Field(description="For an outline: new lines, one for each page.")] = None
    page: Annotated[int | None, Field(description="Page to change, from 1; the waiting page by default.")] = None
    text: Annotated[str | None, Field(description="For a page: its new text.")] = None
    wish: Annotated[str | None, Field(description="For a page: what the model should change in its text.")] = None
    caption: Annotated[str | None, Field(description="For a page: a new caption; its picture is drawn again.")] = None
    seed: Annotated[int | None, Field(description="For a page: a seed; its picture is drawn again.")] = None
    picture: Annotated[str | None, Field(description="For a page: id of one of its earlier pictures.")] = None
    budget: BookBudget = None
    wait_s: WaitSeconds = 45

    @property
    def page_edits(self) -> dict[str, Any]:
        """The given changes of a page, as fields of a `PageRevision`."""
        names = ("text", "wish", "caption", "seed", "picture")
        return {name: value for name in names if (value := getattr(self, name)) is not None}
