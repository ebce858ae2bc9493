"""The tools `draw`, `edit` and `redraw`: the LangChain tools of this package, with progress and a person's approval."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mgem_agent.artifacts.redrawing import RedrawnPicture, recipe_of, redraw_picture
from mgem_agent.errors import InputError
from mgem_agent.mcp.answers import ToolAnswer
from mgem_agent.mcp.call import Call, Progress, Question
from mgem_agent.mcp.pictures import PictureFacts, picture_facts, shortened, shown_picture
from mgem_agent.tools.budget import Budget, Budgets
from mgem_agent.tools.drawing_arguments import CaptionArguments, EditArguments, Seed
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.spending import costs_money
from mgem_agent.tools.tool_arguments import ToolArguments

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

__all__ = [
    "DrawCall",
    "DrawnAnswer",
    "EditCall",
    "RedrawCall",
    "agreed_to_spend",
    "chosen_generator",
    "draw",
    "edit",
    "invoked",
    "redraw",
]

GeneratorName = Annotated[str | None, Field(description="Name of the generator; leave out for the default.")]
CallBudget = Annotated[
    str | None,
    Field(
        description="Limits of this call, such as 0.10usd,30s; beyond them nothing is drawn. The server's own limits "
        "hold, too.",
        max_length=200,
    ),
]


class DrawCall(CaptionArguments):
    """Arguments of `draw`."""

    generator: GeneratorName = None
    budget: CallBudget = None


class EditCall(EditArguments):
    """Arguments of `edit`."""

    generator: GeneratorName = None
    budget: CallBudget = None


class RedrawCall(ToolArguments):
    """Arguments of `redraw`."""

    image: Annotated[str, Field(description="Id (img-…) of the picture to draw again.")]
    seed: Seed = None
    generator: Annotated[
        str | None, Field(description="Name of the generator; leave out for the one that drew the picture.")
    ] = None
    budget: CallBudget = None


class DrawnAnswer(BaseModel):
    """A drawn picture."""

    model_config = ConfigDict(frozen=True)

    picture: PictureFacts
    notices: list[str] = Field(default=[], description="What was changed or left out.")
    way: str | None = Field(default=None, description="How the picture was edited, such as edit or image_to_image.")
    is_fallback: bool | None = Field(default=None, description="Whether another way than the requested one was used.")
    comparison: str | None = Field(default=None, description="How a redrawn picture compares with the first one.")


async def draw(call: Call, arguments: DrawCall) -> ToolAnswer:
    """Draw a picture from a caption."""
    from mgem_agent.langchain.drawing_tools import draw_tool

    limits = _limits(arguments.budget)
    generator = await chosen_generator(call, arguments.generator)
    prompt = await _approved(call, arguments.prompt, generator, what="Draw this picture")
    parts = call.parts
    return await _drawn(
        call,
        lambda cancel, progress: invoked(
            draw_tool(
                generator,
                parts.store,
                defaults=parts.defaults,
                cancel=cancel,
                on_progress=progress.set_step,
                meter=parts.meter,
                limits=limits,
            ),
            {**_given(arguments), "prompt": prompt},
        ),
        title=prompt,
    )


async def edit(call: Call, arguments: EditCall) -> ToolAnswer:
    """Edit a picture."""
    from mgem_agent.langchain.drawing_tools import edit_tool

    limits = _limits(arguments.budget)
    generator = await chosen_generator(call, arguments.generator)
    instruction = await _approved(call, arguments.instruction, generator, what="Edit a picture in this way")
    parts = call.parts
    return await _drawn(
        call,
        lambda cancel, progress: invoked(
            edit_tool(
                generator,
                parts.store,
                fallbacks=parts.fallbacks,
                access=parts.access,
                cancel=cancel,
                on_progress=progress.set_step,
                meter=parts.meter,
                limits=limits,
            ),
            {**_given(arguments), "instruction": instruction},
        ),
        title=instruction,
    )


async def redraw(call: Call, arguments: RedrawCall) -> ToolAnswer:
    """Draw a picture again from its record; with another seed, a variation."""
    parts, limits = call.parts, _limits(arguments.budget)
    recipe = await asyncio.to_thread(recipe_of, arguments.image, parts.store)
    name = arguments.generator
    generator = await asyncio.to_thread(parts.recorded_generator, recipe.generator) if name is None else None
    generator = generator if generator is not None else await chosen_generator(call, name)
    await agreed_to_spend(call, generator, f"Draw {arguments.image} again")

    def drawn_again(cancel: threading.Event, progress: Progress) -> RedrawnPicture:
        with parts.meter.call(limits, cancel) as metered:
            return redraw_picture(
                arguments.image,
                parts.store,
                generator,
                seed=arguments.seed,
                cancel=metered.cancel,
                on_progress=progress.set_step,
                meter=metered.meter,
            )

    again = await call.work("redraw", drawn_again, title=recipe.request.prompt[:80])
    facts = DrawnAnswer(
        picture=picture_facts(again.artifact), notices=list(arguments.notices), comparison=again.comparison
    )
    text = f"Drew {again.artifact.id}. Compared with {arguments.image}: {again.comparison}."
    return ToolAnswer(text, facts, shown_picture(again.artifact, parts.store))


async def chosen_generator(call: Call, name: str | None) -> ImageGenerator:
    """Return a generator; importing its packages does not block the event loop.

    Raises:
        InputError: If clients may not use it.
    """
    return await asyncio.to_thread(call.parts.generator, name)


async def agreed_to_spend(call: Call, generator: ImageGenerator, what: str) -> None:
    """Ask before a generator that costs money is used, unless spending is allowed.

    Args:
        call: The call.
        generator: The generator.
        what: What would be done, as the start of a question.

    Raises:
        InputError: If a person refuses, nobody can be asked, or spending is not allowed.
    """
    if not _must_ask_to_spend(call, generator):
        return
    agreed = {"agreed": {"type": "boolean", "title": "Spend the money", "default": True}}
    question = Question(f"{what} with {generator.name}? It costs money.", _otherwise(call, generator), agreed)
    answer = await call.ask(question)
    if answer is None or answer.get("agreed") is False:
        raise InputError("The person refused. Nothing was drawn. Ask the person what to do instead.")


def invoked(tool: BaseTool, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Call a LangChain tool, and return its text and its manifest.

    Args:
        tool: A tool of `mgem_agent.langchain`.
        arguments: Its arguments.

    Raises:
        InputError: With the text of the tool, if it returns an error.
    """
    message = tool.invoke({"type": "tool_call", "id": "mcp", "name": tool.name, "args": arguments})
    if message.status == "error":
        raise InputError(str(message.content))
    return str(message.content), message.artifact


def _limits(budget: str | None) -> Budgets:
    """Return the limits of one call.

    Raises:
        InputError: If it is not a budget, or names another scope.
    """
    return Budgets() if budget is None else Budgets(turn=Budget.parse(budget))


def _given(arguments: ToolArguments) -> dict[str, Any]:
    """The arguments for the LangChain tool, also unknown ones, which it reports."""
    given = {name: value for name, value in arguments if value is not None}
    return {name: value for name, value in given.items() if name not in ("generator", "budget")}


async def _drawn(call: Call, function: Any, *, title: str) -> ToolAnswer:
    text, manifest = await call.work("draw", function, title=title[:80])
    store = call.parts.store
    artifact = store.get(manifest["images"][0]["id"])
    facts = DrawnAnswer(
        picture=picture_facts(artifact),
        notices=manifest["notices"],
        way=manifest.get("way"),
        is_fallback=manifest.get("is_fallback"),
    )
    return ToolAnswer(text, facts, await asyncio.to_thread(shown_picture, artifact, store))


async def _approved(call: Call, prompt: str, generator: ImageGenerator, *, what: str) -> str:
    """Return the prompt that a person has approved, possibly edited; the same one if nobody has to."""
    is_charged = _must_ask_to_spend(call, generator)
    if not call.parts.confirm and not is_charged:
        return prompt
    shown = shortened(prompt, 1000)
    cost = " It costs money." if is_charged else ""
    field = {"type": "string", "title": "Caption", "description": "What is drawn.", "default": prompt}
    question = Question(
        f"{what} with {generator.name}?{cost}\n\n{shown}", _otherwise(call, generator), {"caption": field}
    )
    answer = await call.ask(question)
    if answer is None:
        raise InputError("The person refused. Nothing was drawn. Ask the person what to change.")
    return str(answer.get("caption") or prompt)


def _must_ask_to_spend(call: Call, generator: ImageGenerator) -> bool:
    if call.parts.spending == "allow" or not costs_money(generator):
        return False
    if call.parts.spending == "refuse":
        raise InputError(
            f"The generator {generator.name!r} costs money, and this server may not spend any. Choose another "
            f"generator, or start the server with --spend ask."
        )
    return True


def _otherwise(call: Call, generator: ImageGenerator) -> str:
    """Why the call is refused if nobody can be asked, and how to allow it."""
    if call.parts.confirm:
        return (
            "This server asks before it draws (--confirm), so nothing was drawn. Start it without --confirm, or use a "
            "client with elicitation."
        )
    return (
        f"The generator {generator.name!r} costs money, so nothing was drawn. Choose another generator, or start the "
        f"server with --spend allow."
    )
