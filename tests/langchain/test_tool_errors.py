"""Errors of this package become what LangChain tells the model; others stay what they are."""

from __future__ import annotations

import pytest
from langchain_core.tools import ToolException

from mgem_agent.errors import InputError
from mgem_agent.langchain.tool_errors import told_to_the_caller


def test_our_errors_are_told() -> None:
    with pytest.raises(ToolException, match="no such fox") as told, told_to_the_caller():
        raise InputError("no such fox")
    assert isinstance(told.value.__cause__, InputError)


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), told_to_the_caller():
        raise ZeroDivisionError
