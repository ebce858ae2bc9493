"""What goes wrong in a tool, told to the model that called it: nothing that it can mend ends its run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from langchain_core.tools import ToolException

from mgem_agent.errors import MgemError

__all__ = ["told_to_the_caller"]


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
