from __future__ import annotations

from typing import Any

import pytest

from mgem_agent.agent.agent_settings import AgentSettings, known_draw_mode
from mgem_agent.errors import InputError


def test_values_at_the_limits_are_accepted() -> None:
    settings = AgentSettings(draw="always", max_pictures=1, timeout_s=0.5, max_context_tokens=1)
    assert (settings.draw, settings.timeout_s) == (known_draw_mode("always"), 0.5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"draw": "ever"}, r"^There is no draw mode 'ever'\. Allowed: 'auto', 'always', 'never'\.$"),
        ({"max_history_turns": -1}, r"^max_history_turns=-1 is too small\. Give 0 or more\.$"),
        ({"max_pictures": 0}, r"^max_pictures=0 is too small\. Give 1 or more\.$"),
        ({"max_context_tokens": 0}, r"^max_context_tokens=0 is too small\. Give 1 or more\.$"),
        ({"timeout_s": float("nan")}, r"^timeout_s=nan is not a valid time limit\."),
    ],
)
def test_values_out_of_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AgentSettings(**given)
