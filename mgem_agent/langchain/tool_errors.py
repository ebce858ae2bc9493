"""Return a tool's errors to the model that called it, so that it can correct its call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from langchain_core.tools import ToolException

from mgem_agent.errors import MgemError

__all__ = ["errors_for_the_model"]


@contextmanager
def errors_for_the_model() -> Iterator[None]:
    """Convert errors of this package to the exception that LangChain returns to the model as a tool message.

    Raises:
        ToolException: Instead of any `MgemError`.
    """
    try:
        yield
    except MgemError as error:
        raise ToolException(str(error)) from error
