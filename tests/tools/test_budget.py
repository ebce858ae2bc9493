"""Budgets are read, checked before a call, and counted."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from mgem_agent.errors import BudgetExceededError, InputError
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import ImageRequest, ImageResult, draw
from mgem_agent.tools.budget import Budget, Budgets, Cost, Meter, cost_in_words
from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.tools.prices import Prices


class Charged(FlatColourGenerator):
    costs_money = True


def results(generator: Any, num: int, meter: Meter) -> list[ImageResult]:
    requests = [ImageRequest(prompt=f"card {place}") for place in range(num)]
    return [event for event in draw(generator, requests, meter=meter) if isinstance(event, ImageResult)]


@pytest.mark.parametrize(
    ("text", "expected", "written"),
    [
        ("0.50usd,20pictures,10min,50000tokens", Budget(20, 600.0, 50_000, 0.5), "0.5usd,20pictures,600s,50000tokens"),
        ("$2, 1 picture", Budget(pictures=1, usd=2.0), "2usd,1pictures"),
        ("1.5h", Budget(seconds=5400.0), "5400s"),
    ],
)
def test_a_budget_is_read_and_written(text: str, expected: Budget, written: str) -> None:
    budget = Budget.parse(text)
    assert budget == expected and str(budget) == written and Budget.parse(written) == expected and budget


def test_amounts_may_name_their_scope() -> None:
    budgets = Budgets.parse("1usd,5pictures/turn,2usd/book", "session")
    assert budgets == Budgets(Budget(pictures=5), Budget(usd=1.0), Budget(usd=2.0))
    assert Budgets.parse({"turn": "5pictures", "book": None}) == Budgets(turn=Budget(pictures=5))
    assert Budgets.parse(Budget(pictures=1), "book") == Budgets(book=Budget(pictures=1))
    assert Budgets.parse(None) == Budgets() and Budgets.parse(budgets) is budgets


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("much", r"^'much' in the budget 'much' is not an amount with a unit\. Example: 0\.50usd,20pictures,10min"),
        ("5", r"^'5' in the budget '5' is not an amount"),
        ("-1usd", r"is not an amount"),
        ("", r"^The budget '' is empty\. Example"),
        ("1.5pictures", r"^'1\.5pictures' in the budget '1\.5pictures' is not a whole number of pictures\.$"),
        ("1usd/week", r"^There is no budget for a 'week'\. Allowed: /turn, /session, /book\.$"),
        ({"week": "1usd"}, r"^There is no budget for a 'week'\. Allowed: turn, session, book\.$"),
        ({"turn": "1usd/turn"}, r"names the scope 'turn', but it is for one scope"),
    ],
)
def test_what_is_no_budget_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Budgets.parse(given)


def test_pictures_past_the_budget_are_refused_before_they_are_drawn() -> None:
    generator, meter = FlatColourGenerator(size=(16, 16)), Meter(Budgets.parse("2pictures"))
    drawn = results(generator, 3, meter)
    assert [result.image is not None for result in sorted(drawn, key=lambda each: each.index)] == [True, True, False]
    [refusal] = [result.error for result in drawn if result.error]
    assert isinstance(refusal, BudgetExceededError)
    assert str(refusal) == (
        "The budget of this turn is 2 pictures. Spent: 2 pictures. Asked for: 1 more (a picture by 'flat'). Nothing is "
        "lost. Raise the budget to go on: --budget, the setting budget.turn, or budget=…."
    )
    assert len(generator.drawn) == 2 and meter.spent.pictures == 2


def test_a_failed_picture_costs_nothing() -> None:
    generator, meter = FlatColourGenerator(size=(16, 16), fail_on="0"), Meter(Budgets.parse("2pictures"))
    assert [result.image is None for result in results(generator, 2, meter)] == [True, False]
    assert meter.spent.pictures == 1
    meter.check(Cost(pictures=1), "a picture")


def test_dollars_need_a_known_price() -> None:
    prices = Prices({"flat": {"picture": 0.04}})
    [first, second] = results(Charged(size=(16, 16)), 2, Meter(Budgets.parse("0.05usd"), prices))
    assert first.cost_usd == 0.04 and isinstance(second.error, BudgetExceededError)
    assert "The budget of this turn is 0.05 USD. Spent: 0.04 USD. Asked for: 0.04 USD more" in str(second.error)
    [refused] = results(Charged(size=(16, 16)), 1, Meter(Budgets.parse("0.05usd")))
    assert "the price of a picture by 'flat' is not known. State it in the table `prices`" in str(refused.error)
    [drawn] = results(Charged(size=(16, 16)), 1, Meter(Budgets.parse("5pictures")))
    assert drawn.image is not None and drawn.cost_usd is None
    [free] = results(FlatColourGenerator(size=(16, 16)), 1, Meter(Budgets.parse("0usd")))
    assert free.cost_usd == 0.0


def test_time_that_is_used_up_refuses_every_call() -> None:
    meter = Meter(Budgets.parse("5s"), spent={"turn": Cost(seconds=5.0)})
    with pytest.raises(
        BudgetExceededError, match=r"^The budget of this turn is 5 s\. Spent: 5 s\. Asked for: an answer"
    ):
        meter.check(Cost(tokens=1), "an answer")
    slow = Meter(Budgets.parse("60s"))
    slow.add(Cost(pictures=2, seconds=100.0))
    assert slow.seconds_a_picture == 50.0
    with pytest.raises(BudgetExceededError):
        slow.check(Cost(pictures=1, seconds=61.0), "a picture")
    assert 59 < (slow.seconds_left() or 0) <= 60


def test_an_outer_meter_counts_the_same_calls() -> None:
    book = Meter(Budgets.parse("3pictures", "book"), Prices({"flat": {"picture": 1.0}}))
    turn = Meter(Budgets.parse("2pictures"), outer=book)
    assert turn.prices is book.prices and turn.has_limits and not Meter().has_limits
    results(FlatColourGenerator(size=(16, 16)), 2, turn)
    assert (book.spent.pictures, book.spent.usd) == (2, 2.0)
    other = Meter(outer=book)
    drawn = results(FlatColourGenerator(size=(16, 16)), 2, other)
    assert "The budget of this book is 3 pictures" in str(next(each.error for each in drawn if each.error))


def test_a_stopped_batch_releases_what_was_reserved() -> None:
    meter, cancel = Meter(Budgets.parse("1pictures")), threading.Event()
    events = draw(FlatColourGenerator(size=(16, 16)), [ImageRequest(prompt="a")], cancel=cancel, meter=meter)
    next(events)
    with pytest.raises(BudgetExceededError):
        meter.check(Cost(pictures=1), "a picture")
    cancel.set()
    assert [event.image for event in events if isinstance(event, ImageResult)] == [None]
    meter.check(Cost(pictures=1), "a picture")


def test_each_batch_is_checked_with_what_is_spent_by_then() -> None:
    one = FlatColourGenerator.CAPABILITIES.model_copy(update={"max_batch_size": 1})
    generator = FlatColourGenerator(size=(16, 16), capabilities=Capabilities.model_validate(one.model_dump()))
    meter = Meter(Budgets.parse("1pictures"))
    assert sum(result.image is not None for result in results(generator, 3, meter)) == 1
    assert generator.num_batches == 1


def test_a_cost_is_a_record_and_a_line() -> None:
    cost = Cost.priced(None, pictures=1, seconds=1.23456) + Cost.priced(0.5, tokens=1200)
    assert Cost.read(cost.record()) == Cost(1, 1.235, 1200, 0.5, 1)
    assert Cost.read(None) == Cost() and not Cost() and Cost.read({"pictures": 1, "later": 2}) == Cost(1)
    assert cost_in_words(cost) == "1 picture, 1.2 s, 1,200 tokens, 0.5 USD and 1 call without a known price"
    assert cost_in_words(Cost(pictures=2)) == "2 pictures, 0.0 s, 0 USD"
