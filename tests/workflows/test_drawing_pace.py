"""When a batch is worth a wait."""

from __future__ import annotations

import pytest

from mgem_agent.workflows.drawing_pace import DrawingPace

SINGLE_S = 7.0


def eight_for_two(size: int) -> float:
    """Seconds of a batch by a generator whose batch of eight costs twice a single picture."""
    return SINGLE_S + (size - 1) * SINGLE_S / 7


def timed(*sizes: int, max_batch_size: int | None = None) -> DrawingPace:
    pace = DrawingPace(max_batch_size)
    for size in sizes:
        pace.note(size, eight_for_two(size))
    return pace


def test_the_costs_are_found_from_two_sizes() -> None:
    pace = timed(1, 7, 3)
    assert [pace.batch_s(size) for size in (1, 8)] == pytest.approx([7.0, 14.0])


def test_the_costs_are_never_negative() -> None:
    pace = DrawingPace()
    pace.note(1, 10.0)  # the first loads the model
    pace.note(4, 2.0)
    assert pace.batch_s(1) == pace.batch_s(4) == pytest.approx(6.0)
    steep = DrawingPace()
    steep.note(1, 1.0)
    steep.note(2, 9.0)
    assert steep.batch_s(1) > 0


def test_a_fast_writer_is_waited_for_and_a_slow_one_is_not() -> None:
    assert timed(1, 2).is_worth_waiting(1, 7, page_s=0.5)
    assert not timed(1, 2).is_worth_waiting(1, 7, page_s=10.0)
    assert not timed(1, 2).is_worth_waiting(8, 0, page_s=0.1)


def test_before_the_first_picture_no_wait_is_long() -> None:
    assert DrawingPace().is_worth_waiting(1, 7, page_s=0.03)
    assert not DrawingPace().is_worth_waiting(1, 7, page_s=1.0)


def test_batches_that_save_nothing_are_not_waited_for() -> None:
    even = DrawingPace()
    even.note(1, 2.0)
    even.note(3, 6.0)
    assert not any(even.is_worth_waiting(ready, 8 - ready, page_s=0.5) for ready in range(1, 8))
    assert not DrawingPace(1).is_worth_waiting(1, 7, page_s=0.001)


def test_a_full_batch_is_drawn() -> None:
    assert timed(1, 4, max_batch_size=4).is_worth_waiting(3, 5, page_s=0.1)
    assert not timed(1, 4, max_batch_size=4).is_worth_waiting(4, 4, page_s=0.1)


def tell_s(page_s: float, pace: DrawingPace) -> float:
    """Seconds of a story of eight pages whose drawing follows the decisions; times are simulated."""
    written = [page_s * (page + 1) for page in range(8)]
    time_s, num_drawn = 0.0, 0
    while num_drawn < 8:
        num_ready = sum(each <= time_s + 1e-9 for each in written) - num_drawn
        num_to_come = 8 - num_drawn - num_ready
        if not num_ready or pace.is_worth_waiting(num_ready, num_to_come, page_s):
            time_s = written[num_drawn + num_ready]
            continue
        size = min(num_ready, pace.max_batch_size or 8)
        pace.note(size, eight_for_two(size))
        time_s += eight_for_two(size)
        num_drawn += size
    return time_s


@pytest.mark.parametrize("page_s", [0.01, 0.1, 10.0, 70.0])
def test_a_story_takes_little_longer_than_its_longer_side(page_s: float) -> None:
    """Eight pictures are 14 s as one batch; the last picture cannot be begun before the last page is written."""
    pace = timed(1, 8)
    assert tell_s(page_s, pace) <= 1.1 * max(8 * page_s, 14.0) or page_s == 10.0
    assert tell_s(page_s, timed(1, 8)) <= 8 * page_s + 14.0


def test_one_at_a_time_never_idles() -> None:
    assert tell_s(1.0, timed(1, max_batch_size=1)) == pytest.approx(1.0 + 8 * SINGLE_S)
