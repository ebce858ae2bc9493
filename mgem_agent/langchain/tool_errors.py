"""What goes wrong in a tool, told to the model that called it: nothing that it can mend ends its run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from langchain_core.tools import ToolException

from mgem_agent.errors import MgemError

__all__ = ["explain_arguments", "told_to_the_caller"]


@contextmanager
def told_to_the_caller() -> Iterator[None]:
    """Make the errors of this package those that LangChain hands to the model as the tool's message.

    Raises:
        ToolException: In the place of any `MgemError`.
    """
    try:
        yield
    except MgemError as error:
        raise ToolException(str(error)) from error


def explain_arguments(error: Any) -> str:
    """Return what is wrong with the arguments of a call.

    Args:
        error: Pydantic's, of either version.
    """
    wrong = "; ".join(": ".join(filter(None, (".".join(map(str, it["loc"])), it["msg"]))) for it in error.errors())
    return f"The arguments of the call are wrong. {wrong}. Call again with arguments that fit the tool's schema."
