"""One thread: tiny computations only lose time to a second one."""

from collections.abc import Iterator

import pytest

from mgem_agent.recipes.bench.measure import use_threads


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with use_threads(1):
        yield
