"""The costs of a page are those of its story, divided."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mgem_agent.errors import InputError, MgemError
from mgem_agent.recipes.bench.page import PageCost, StoryCounts, bench_page


def tell(folder: Path, num_scenes: int) -> StoryCounts:
    for place in range(num_scenes):
        (folder / f"img-{place}.png").write_bytes(b"x" * 100)
        (folder / f"img-{place}.json").write_bytes(b"x" * 10)
    (folder / "story.json").write_bytes(b"x" * 60)
    return StoryCounts(
        answers=6, input_tokens=900, output_tokens=90, writing_s=3.0, drawings=3, steps=30, drawing_s=1.5,
        num_scenes=num_scenes,
    )  # fmt: skip


def test_each_page_has_its_share() -> None:
    cost = bench_page(tell, reasoner="one", generator="two", num_scenes=3)
    expected = {
        "answers": 2, "input_tokens": 300, "output_tokens": 30, "writing_s": 1, "drawings": 1, "steps": 10,
        "drawing_s": 0.5, "picture_bytes": 100, "sidecar_bytes": 10, "story_bytes": 20,
    }  # fmt: skip
    assert cost.per_page == expected
    assert PageCost.model_validate(cost.model_dump(exclude={"per_page"})) == cost
    printed = StringIO()
    Console(file=printed, width=100).print(cost.render())
    assert "one, two" in printed.getvalue() and "writing, s" in printed.getvalue()


def test_a_story_without_a_picture_is_no_measure() -> None:
    def nothing(folder: Path, num_scenes: int) -> StoryCounts:
        return tell(folder, 0)

    with pytest.raises(MgemError, match="'two' drew no page"):
        bench_page(nothing, reasoner="one", generator="two", num_scenes=3)
    with pytest.raises(InputError):
        bench_page(tell, reasoner="one", generator="two", num_scenes=0)
