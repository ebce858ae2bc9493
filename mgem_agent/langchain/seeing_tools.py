"""Looking at pictures and reading their text as LangChain tools."""

from __future__ import annotations

from dataclasses import asdict

from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool

from mgem_agent.agent.image_judge import Verdict, check_sees, look_at_image
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.langchain.picture_access import PictureAccess
from mgem_agent.langchain.tool_errors import errors_for_the_model
from mgem_agent.langchain.tool_output import ToolOutput, make_tool, tool_output, with_notices
from mgem_agent.tools.reading import read_text
from mgem_agent.tools.seeing_arguments import LookArguments, ReadArguments

__all__ = ["look_tool", "read_tool"]


def look_tool(reasoner: BaseChatModel, store: ArtifactStore, *, access: PictureAccess) -> BaseTool:
    """Create the tool `look_at_image`, whose artifact has the `verdict`.

    Args:
        reasoner: The chat model that judges.
        store: The store of the pictures.
        access: Which pictures may be named.

    Raises:
        InputError: If the reasoner's profile says that it takes no pictures.
    """
    check_sees(reasoner)

    def run(arguments: LookArguments) -> ToolOutput:
        with errors_for_the_model():
            name = access.store(arguments.image, store)
            verdict = look_at_image(reasoner, store.open(name), arguments.caption or _own_caption(name, store))
            said = with_notices(_in_words(name, verdict), arguments.notices)
            return tool_output(said, [name], store, blocks="none", verdict=asdict(verdict))

    description = "Judge whether a picture shows what its caption says: a verdict, a score from 0 to 1, what is wrong."
    return make_tool("look_at_image", description, LookArguments, run)


def read_tool(store: ArtifactStore, *, access: PictureAccess) -> BaseTool:
    """Create the tool `read_text`, whose artifact has the `text` and its `lines`.

    Args:
        store: The store of the pictures.
        access: Which pictures may be named.
    """

    def run(arguments: ReadArguments) -> ToolOutput:
        with errors_for_the_model():
            name = access.store(arguments.image, store)
            found = read_text(store.open(name))
            lines = [asdict(line) | {"box": list(line.box)} for line in found.lines]
            said = f"Text in {name}:\n{found.text}" if found.lines else f"There is no text in {name}."
            told = with_notices(said, (*arguments.notices, *found.notices))
            return tool_output(told, [name], store, blocks="none", text=found.text, lines=lines)

    return make_tool("read_text", "Read the text in a picture: printed words, signs, labels.", ReadArguments, run)


def _own_caption(artifact_id: str, store: ArtifactStore) -> str:
    recipe = store.get(artifact_id).recipe
    if recipe is None:
        raise InputError(f"{artifact_id} was not drawn here and has no caption. Give `caption`: what it should show.")
    return recipe.request.prompt


def _in_words(artifact_id: str, verdict: Verdict) -> str:
    if verdict.follows is None:
        return f"No verdict on {artifact_id}. The reasoner said: {verdict.answer.strip() or 'nothing'}"
    words = f"{artifact_id} {'follows' if verdict.follows else 'does not follow'} the caption."
    if verdict.score is not None:
        words += f" Score: {verdict.score:.2g} of 1."
    if verdict.problem:
        words += f" What is wrong: {verdict.problem}"
    if verdict.caption:
        words += f" A better caption: {verdict.caption}"
    return words
