"""A bar where someone reads it, and nothing anywhere else."""

from __future__ import annotations

import pytest
from rich.console import Console
from rich.live import Live

from mgem_agent.nano.progress import shown_progress


def test_nothing_is_written_where_no_one_reads(capfd: pytest.CaptureFixture[str]) -> None:
    with shown_progress("Fetching", 10) as report:
        report(5)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_gets_title_and_share(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with shown_progress("Fetching", 10_000) as report:
        report(5_000)
    out, err = capfd.readouterr()
    assert out == ""
    assert "Fetching" in err and "5.0/10.0 kB" in err
    with pytest.raises(RuntimeError), shown_progress("Converting"):
        raise RuntimeError
    assert "Converting" in capfd.readouterr().err


def test_a_callers_own_display_keeps_the_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    own = Console(stderr=True)
    with Live("mine", console=own), shown_progress("Fetching", 10) as report:
        report(5)
    assert "mine" in capfd.readouterr().err
