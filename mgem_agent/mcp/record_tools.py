"""The tools `lineage` and `generators`: what was drawn from what, and what can draw."""

from __future__ import annotations

import asyncio
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import MgemError
from mgem_agent.mcp.answers import ToolAnswer
from mgem_agent.mcp.call import Call
from mgem_agent.mcp.parts import McpParts
from mgem_agent.mcp.pictures import PictureFacts, picture_facts, shortened
from mgem_agent.tools.spending import costs_money
from mgem_agent.tools.tool_arguments import ToolArguments

__all__ = [
    "GeneratorFacts",
    "GeneratorsAnswer",
    "GeneratorsCall",
    "LineageAnswer",
    "LineageCall",
    "generators",
    "lineage",
    "lineage_of",
]

MAX_PICTURES = 40
MAX_PROMPT_CHARS = 300
MAX_SIZES = 20


class LineageCall(ToolArguments):
    """Arguments of `lineage`."""

    image: Annotated[str, Field(description="Id (img-…) of the picture.")]


class LineageAnswer(BaseModel):
    """A picture and all that it was made from."""

    model_config = ConfigDict(frozen=True)

    image: str = Field(description="Id of the picture.")
    pictures: list[PictureFacts] = Field(description="The picture itself, then its parents, then theirs.")
    missing: list[str] = Field(default=[], description="Ids of ancestors that are no longer stored.")
    num_more: int = Field(default=0, description="Number of ancestors that are left out here.")


class GeneratorsCall(ToolArguments):
    """Arguments of `generators`: none."""


class GeneratorFacts(BaseModel):
    """An image generator."""

    model_config = ConfigDict(frozen=True)

    name: str
    is_default: bool
    costs_money: bool = False
    tasks: list[str] = Field(default=[], description="What it can do: text_to_image, image_to_image, inpaint, edit.")
    seed: bool = Field(default=False, description="Whether the same seed gives the same picture.")
    negative_prompt: bool = False
    strength: bool = False
    max_references: int = 0
    sizes: list[str] = Field(default=[], description="Supported sizes, such as 1024x768; empty for any.")
    vocabulary: str | None = Field(default=None, description="For a small model: how much it can draw.")
    problem: str | None = Field(default=None, description="Why it cannot be used.")


class GeneratorsAnswer(BaseModel):
    """The image generators of this server."""

    model_config = ConfigDict(frozen=True)

    generators: list[GeneratorFacts]


async def lineage(call: Call, arguments: LineageCall) -> ToolAnswer:
    """Return what a picture was made from."""
    facts = await asyncio.to_thread(lineage_of, arguments.image, call.parts.store)
    lines = [
        f"{picture.id} ({picture.task or 'given'}): {picture.prompt or 'no prompt'}"
        + (f" — made from {', '.join(picture.parents)}" if picture.parents else "")
        for picture in facts.pictures
    ]
    lines += [f"{name}: no longer stored" for name in facts.missing]
    return ToolAnswer("\n".join(lines), facts)


def lineage_of(image_id: str, store: ArtifactStore) -> LineageAnswer:
    """Return a picture and its ancestors.

    Args:
        image_id: Id of the picture.
        store: The store of the pictures.

    Raises:
        InputError: If there is no such picture.
    """
    found = store.lineage(image_id)
    known = [artifact for artifact in found.values() if artifact is not None]
    pictures = [picture_facts(artifact) for artifact in known[:MAX_PICTURES]]
    short = [
        picture.model_copy(update={"prompt": picture.prompt and shortened(picture.prompt, MAX_PROMPT_CHARS)})
        for picture in pictures
    ]
    missing = [name for name, artifact in found.items() if artifact is None]
    return LineageAnswer(
        image=known[0].id,
        pictures=short,
        missing=missing[:MAX_PICTURES],
        num_more=max(0, len(known) - MAX_PICTURES),
    )


async def generators(call: Call, arguments: GeneratorsCall) -> ToolAnswer:
    """List the generators and what they support."""
    facts = await asyncio.to_thread(_all_facts, call.parts)
    lines = []
    for each in facts.generators:
        notes = ["default"] * each.is_default + ["costs money"] * each.costs_money + [", ".join(each.tasks)]
        notes += [each.vocabulary] if each.vocabulary else []
        lines.append(f"{each.name}: {each.problem or '; '.join(filter(None, notes))}")
    return ToolAnswer("\n".join(lines), facts)


def _all_facts(parts: McpParts) -> GeneratorsAnswer:
    return GeneratorsAnswer(generators=[_facts(name, parts) for name in parts.generators])


def _facts(name: str, parts: McpParts) -> GeneratorFacts:
    is_default = name == parts.generators[0]
    try:
        generator = parts.generator(name)
        able = generator.capabilities
    except MgemError as error:
        return GeneratorFacts(name=name, is_default=is_default, problem=str(error))
    known = able.vocabulary
    return GeneratorFacts(
        name=name,
        is_default=is_default,
        costs_money=costs_money(generator),
        tasks=sorted(able.tasks),
        seed=able.seed,
        negative_prompt=able.negative_prompt,
        strength=able.strength,
        max_references=able.max_references,
        sizes=[f"{width}x{height}" for width, height in able.sizes[:MAX_SIZES]],
        vocabulary=None if known is None else f"draws {len(known.things)} things and {len(known.places)} places",
    )
