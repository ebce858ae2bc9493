"""The count of records that were not used."""

from __future__ import annotations

from pathlib import Path

from mgem_agent.recipes.train.broken_report import BrokenReport
from mgem_agent.recipes.train.examples import BrokenRecord


def test_each_counts_once_also_in_a_resumed_run(tmp_path: Path) -> None:
    gone = [BrokenRecord("a.jsonl", position, "missing picture", "there is no picture") for position in (3, 4)]
    report = BrokenReport(tmp_path, 0)
    assert report.summary() == ""
    report.add([*gone, gone[0]])
    again = BrokenReport(tmp_path, 0)
    again.add([gone[1], BrokenRecord("b.jsonl", 3, "too long", "it has 9 tokens")])
    assert again.summary() == (
        f"3 record(s) not used: 2 missing picture, 1 too long; see {tmp_path / 'broken-0.jsonl'}\n"
        "  a.jsonl: 2 missing picture\n  b.jsonl: 1 too long"
    )
    assert len((tmp_path / "broken-0.jsonl").read_text(encoding="utf-8").splitlines()) == 3


def test_repairs_are_counted_apart(tmp_path: Path) -> None:
    report = BrokenReport(tmp_path, 1)
    report.add([], [BrokenRecord("a.jsonl", 0, "picture without a mark", "its marks were repaired")])
    assert report.summary() == (f"1 record(s) repaired: 1 picture without a mark; see {tmp_path / 'repaired-1.jsonl'}")
