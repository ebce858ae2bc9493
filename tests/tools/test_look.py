"""How a look is written."""

from __future__ import annotations

from typing import Any

import pytest

from mgem_agent.errors import InputError
from mgem_agent.tools.look import Look


@pytest.mark.parametrize(
    ("given", "expected", "written"),
    [
        (0, Look("auto", 0), "0"),
        (2, Look("auto", 2), "2"),
        ("3@0.5", Look("auto", 3, 0.5), "3@0.5"),
        ("retry", Look("retry", 2), "retry-2"),
        (" Revise-3@0.8 ", Look("revise", 3, 0.8), "revise-3@0.8"),
        ("edit-1", Look("edit", 1), "edit-1"),
        ("best-of-4", Look("best_of_n", 3), "best-of-4"),
        ("best_of_1", Look("best_of_n", 0), "best-of-1"),
        (Look("edit", 1), Look("edit", 1), "edit-1"),
    ],
)
def test_it_is_read_and_written(given: Any, expected: Look, written: str) -> None:
    look = Look.parse(given)
    assert look == expected and str(look) == written and Look.parse(written) == expected
    assert bool(look) == (look.max_redraws > 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("many", r"^look is 'many'\. Give a maximum number of redraws, or retry, revise, edit, .* or best-of-4\."),
        ("retry@1.2.3", r"^look is 'retry@1\.2\.3'\. Give"),
        ("retry@2", r"^The threshold of a look is 2\. Allowed: 0 to 1\.$"),
        (-1, r"^look=-1 is too small\. Give 0 or more\.$"),
    ],
)
def test_what_is_no_look_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Look.parse(given)


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(InputError, match=r"^There is no look strategy 'stare'\. Allowed: 'auto', 'retry', "):
        Look("stare")  # type: ignore[arg-type]
