"""Caches are lent to whom they fit, never to two at once, and no more are kept than allowed."""

from __future__ import annotations

import itertools

import pytest

from mgem_agent.chat_models.dialogue_pool import DialoguePool
from mgem_agent.errors import InputError


def pool_of(max_dialogues: int) -> DialoguePool[int]:
    numbers = itertools.count()
    return DialoguePool(lambda: next(numbers), max_dialogues)


def use(pool: DialoguePool[int], messages: str, thread_id: str | None = None) -> int:
    with pool.lend(list(messages), thread_id) as lent:
        return lent.state


def test_a_dialogue_that_goes_on_gets_its_own() -> None:
    pool = pool_of(3)
    assert [use(pool, "ab"), use(pool, "xy"), use(pool, "abc"), use(pool, "xyz"), use(pool, "a")] == [0, 1, 0, 1, 2]


def test_a_thread_gets_its_own_and_nobody_elses() -> None:
    pool = pool_of(3)
    assert [use(pool, "ab", "t"), use(pool, "ab", "u"), use(pool, "xy", "t"), use(pool, "ab", "u")] == [0, 1, 0, 1]


def test_the_longest_unused_go_first() -> None:
    pool = pool_of(2)
    assert [use(pool, name) for name in "abcab"] == [0, 1, 2, 3, 4]
    assert len(pool) == 2
    pool.clear()
    assert len(pool) == 0
    assert use(pool_of(0), "a") == 0


def test_what_is_in_use_is_not_lent_again() -> None:
    pool = pool_of(2)
    use(pool, "ab")
    with pool.lend(list("ab"), None) as one, pool.lend(list("ab"), None) as two:
        assert (one.state, two.state) == (0, 1)


def test_a_failure_gives_the_caches_back() -> None:
    pool = pool_of(2)
    with pytest.raises(RuntimeError), pool.lend(list("ab"), None):
        raise RuntimeError
    assert use(pool, "abc") == 0


def test_a_bound_below_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"^max_dialogues is -1\. Give 0 to keep no caches, or more\.$"):
        pool_of(-1)
