"""Errors of this package become what LangChain tells the model; others stay what they are."""

from __future__ import annotations

import pytest
from langchain_core.tools import ToolException
from pydantic import BaseModel, ValidationError, model_validator

from mgem_agent.errors import InputError
from mgem_agent.langchain.tool_errors import explain_arguments, told_to_the_caller


def test_our_errors_are_told() -> None:
    with pytest.raises(ToolException, match="no such fox") as told, told_to_the_caller():
        raise InputError("no such fox")
    assert isinstance(told.value.__cause__, InputError)


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), told_to_the_caller():
        raise ZeroDivisionError


def test_arguments_are_explained_by_their_names() -> None:
    class Fox(BaseModel):
        legs: int

        @model_validator(mode="after")
        def _check(self) -> Fox:
            raise ValueError("no fox")

    with pytest.raises(ValidationError) as wrong:
        Fox.model_validate({"legs": "x"})
    assert explain_arguments(wrong.value).startswith(
        "The arguments of the call are wrong. legs: Input should be a valid"
    )
    with pytest.raises(ValidationError) as wrong:
        Fox(legs=4)
    assert explain_arguments(wrong.value).startswith("The arguments of the call are wrong. Value error, no fox. Call")
