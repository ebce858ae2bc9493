"""Errors are copied and sent to other processes whole, whatever the arguments of their class are."""

from __future__ import annotations

import copy
import pickle

import pytest

from mgem_agent import errors
from mgem_agent.errors import (
    BudgetExceededError,
    CheckpointError,
    ContextOverflowError,
    MgemError,
    MissingDependencyError,
    ReasonerPicturesError,
    ToolError,
    UnsupportedRequestError,
)

EXAMPLES: list[MgemError] = [
    BudgetExceededError("too much"),
    CheckpointError("does not fit", missing=["a.weight"]),
    ContextOverflowError(num_text_tokens=5, max_new_tokens=7, max_context=10),
    MissingDependencyError("Work", "ray", "ray"),
    ReasonerPicturesError("no pictures", max_pictures=2),
    ToolError("failed", retryable=True),
    UnsupportedRequestError("no", arguments=["mask"]),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_in_another_process(error: MgemError) -> None:
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert str(other) == str(error) != ""
        assert vars(other) == vars(error)


def test_every_class_can_be_sent() -> None:
    for name in errors.__all__:
        kind = getattr(errors, name)
        error = kind.__new__(kind, "it failed")
        assert str(pickle.loads(pickle.dumps(error))) == "it failed", name
