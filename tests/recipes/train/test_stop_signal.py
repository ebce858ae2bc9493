"""A signal is noted once; the second does what it always does."""

from __future__ import annotations

import signal

import pytest

from mgem_agent.recipes.train.stop_signal import StopSignal


def test_the_second_one_interrupts() -> None:
    with StopSignal() as stop:
        assert stop.received is None
        signal.raise_signal(signal.SIGINT)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        assert signal.getsignal(signal.SIGTERM) != before
        signal.raise_signal(signal.SIGTERM)
        assert stop.received == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
