"""Calls that share a budget, one after another and at the same time."""

from __future__ import annotations

import threading
import time

import pytest

from mgem_agent.errors import BudgetExceededError, GenerationCancelledError
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import Budgets, Cost, ImageRequest, ImageResult, SharedMeter, draw


def test_each_call_has_the_limits_of_a_turn_and_all_have_those_of_a_session() -> None:
    shared = SharedMeter(Budgets.parse("2pictures/turn,3pictures/session"))
    for room in (2, 1, 0):
        with shared.call() as call:
            for _ in range(room):
                call.meter.check(Cost(pictures=1), "a picture")
                call.meter.add(Cost(pictures=1))
            with pytest.raises(BudgetExceededError, match="of this turn" if room == 2 else "of this session"):
                call.meter.check(Cost(pictures=1), "a picture")


def test_a_call_may_have_smaller_limits_but_no_larger_ones() -> None:
    shared = SharedMeter(Budgets.parse("2pictures/turn"))
    with shared.call(Budgets.parse("1picture")) as call, pytest.raises(BudgetExceededError, match="1 picture"):
        call.meter.check(Cost(pictures=2), "pictures")
    with shared.call(Budgets.parse("9pictures")) as call, pytest.raises(BudgetExceededError, match="2 pictures"):
        call.meter.check(Cost(pictures=3), "pictures")


def test_calls_at_the_same_time_do_not_pass_the_limit_together() -> None:
    shared = SharedMeter(Budgets.parse("3pictures/session"))
    generator = FlatColourGenerator(size=(16, 16), num_steps=1)
    drawn: list[bool] = []

    def work() -> None:
        with shared.call() as call:
            events = list(draw(generator, [ImageRequest(prompt="a fox")], meter=call.meter))
            drawn.extend(event.image is not None for event in events if isinstance(event, ImageResult))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(drawn) == [False] * 5 + [True] * 3


def test_time_between_calls_does_not_count() -> None:
    shared = SharedMeter()
    time.sleep(0.05)
    assert shared.spent.seconds == 0
    with shared.call():
        time.sleep(0.02)
        assert shared.spent.seconds >= 0.02
    counted = shared.spent.seconds
    time.sleep(0.02)
    assert shared.spent.seconds == counted


def test_time_that_is_used_up_stops_a_call_and_is_named() -> None:
    shared = SharedMeter(Budgets.parse("0.05s/session"))
    with pytest.raises(BudgetExceededError, match="The budget of this session is 0 s"), shared.call() as call:
        assert call.cancel.wait(5)
        raise GenerationCancelledError("The request was cancelled.")
    with shared.call() as call, pytest.raises(BudgetExceededError, match="of this session"):
        call.meter.check(Cost(pictures=1), "a picture")


def test_an_error_that_is_not_late_is_passed_on() -> None:
    shared = SharedMeter(Budgets.parse("10s"))
    with pytest.raises(GenerationCancelledError), shared.call():
        raise GenerationCancelledError("The request was cancelled.")
