"""What a benchmark shows while it runs."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from mgem_agent.cli.bench_progress import bench_bar
from mgem_agent.recipes.bench.progress import report, steps


def shown(*, is_terminal: bool) -> str:
    printed = StringIO()
    console = Console(file=printed, width=100, force_terminal=is_terminal, _environ={"TERM": "xterm"})
    with bench_bar("mining", console):
        for _ in steps("time of ours", range(3)):
            pass
        report("time of theirs")
        report("", result="ours: 1.00 s [a]")
    return printed.getvalue()


def test_a_file_gets_a_line_for_each_step_and_result() -> None:
    assert shown(is_terminal=False).splitlines() == [
        "mining: time of ours",
        "mining: time of theirs",
        "mining: ours: 1.00 s [a]",
    ]


def test_a_terminal_gets_a_bar_and_the_results() -> None:
    text = shown(is_terminal=True)
    assert "mining: loading" in text and "mining: ours: 1.00 s [a]" in text
    assert "mining: time of theirs" in text and "0/?" in text
