from __future__ import annotations

import pytest

from mgem_agent.agent.limits import above_zero, at_least, known_draw_mode
from mgem_agent.errors import InputError


def test_what_is_in_range_is_returned() -> None:
    assert (known_draw_mode("always"), at_least("look", 0, 0), above_zero("timeout_s", 0.5)) == ("always", 0, 0.5)


def test_what_is_not_is_refused() -> None:
    with pytest.raises(InputError, match=r"^There is no draw mode 'ever'\. Allowed: 'auto', 'always', 'never'\.$"):
        known_draw_mode("ever")
    with pytest.raises(InputError, match=r"^look=-1 is too small\. Give 0 or more\.$"):
        at_least("look", -1, 0)
    with pytest.raises(InputError, match=r"^timeout_s=nan is not a valid time limit\."):
        above_zero("timeout_s", float("nan"))
