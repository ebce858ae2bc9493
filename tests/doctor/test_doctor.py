"""A diagnosis ends, whatever a check does."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from mgem_agent.doctor.doctor import diagnose, run_checks
from mgem_agent.doctor.finding import Finding
from mgem_agent.errors import InputError
from mgem_agent.settings import load_settings


def test_what_goes_wrong_in_a_check_is_a_finding() -> None:
    released = threading.Event()

    def hangs() -> Sequence[Finding]:
        released.wait(30)
        return []

    def fails() -> Sequence[Finding]:
        raise InputError("There is no such thing. Take another.")

    def breaks() -> Sequence[Finding]:
        raise KeyError("one\ntwo")

    def works() -> Sequence[Finding]:
        return [Finding("works", "ok", "well"), Finding("works", "note", "so so", "fix it")]

    checks = [("hangs", hangs), ("fails", fails), ("breaks", breaks), ("works", works)]
    found = list(run_checks(checks, time_limit_s=0.05))
    released.set()
    assert found == [
        Finding("hangs", "problem", "The check did not finish within 0.05 s."),
        Finding("fails", "problem", "There is no such thing. Take another."),
        Finding("breaks", "problem", "KeyError: 'one\\ntwo'"),
        *works(),
    ]


def test_machine_and_setup_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgem_agent.doctor.doctor.machine_checks", lambda: [("a", lambda: [Finding("a", "ok", "")])])
    monkeypatch.setattr(
        "mgem_agent.doctor.doctor.setup_checks",
        lambda settings: [("b", lambda: [Finding("b", "ok", settings.model)])],
    )
    found = list(diagnose(load_settings(model="mine")))
    assert found == [Finding("a", "ok", ""), Finding("b", "ok", "mine")]
