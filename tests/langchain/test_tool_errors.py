"""Errors of this package become what LangChain tells the model; others stay what they are."""

from __future__ import annotations

import pytest
from langchain_core.tools import ToolException

from mgem_agent.errors import InputError
from mgem_agent.langchain.tool_errors import errors_for_the_model


def test_our_errors_are_told() -> None:
    with pytest.raises(ToolException, match="no such fox") as told, errors_for_the_model():
        raise InputError("no such fox")
    assert isinstance(told.value.__cause__, InputError)


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), errors_for_the_model():
        raise ZeroDivisionError
