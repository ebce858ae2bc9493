from __future__ import annotations

from pathlib import Path

from mgem_agent.scale.batch_row import BatchItem
from mgem_agent.scale.start_marks import StartMarks


def test_starts_are_counted_until_the_end(tmp_path: Path) -> None:
    one, other = BatchItem("one/../two", {}), BatchItem("other", {})
    marks = StartMarks(tmp_path / "marks")
    for number in range(3):
        assert marks.num_starts(one) == number
        marks.start(one)
    assert (StartMarks(tmp_path / "marks").num_starts(one), marks.num_starts(other)) == (3, 0)
    marks.end(one)
    marks.end(one)
    assert marks.num_starts(one) == 0
    marks.start(other)
    marks.clear()
    assert not (tmp_path / "marks").exists()
