"""Commands are timed in processes of their own, compared with the first."""

from __future__ import annotations

import sys
from io import StringIO

import pytest
from rich.console import Console

from mgem_agent.errors import MgemError
from mgem_agent.recipes.bench.start import time_commands

BUSY = "sum(i * i for i in range(3_000_000))"


def test_a_command_is_compared_with_the_first() -> None:
    commands = {"nothing": (sys.executable, "-S", "-c", ""), "busy": (sys.executable, "-S", "-c", BUSY)}
    times = time_commands(commands, repeats=2)
    assert len(times.baseline.seconds) == len(times.commands[0].processor_seconds) == 2
    assert times.ratios["busy"] > 1
    printed = StringIO()
    Console(file=printed, width=100).print(times.render())
    assert "nothing" in printed.getvalue() and "×" in printed.getvalue()


def test_a_command_that_fails_says_what_it_said() -> None:
    with pytest.raises(MgemError, match="^'broken' ended with 3: no"):
        time_commands({"broken": (sys.executable, "-S", "-c", "import sys; print('no'); sys.exit(3)")}, repeats=1)
