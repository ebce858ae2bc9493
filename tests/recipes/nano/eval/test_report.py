from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.eval.report import EvalReport


def test_it_is_read_as_it_was_written(tmp_path: Path, whole_report: EvalReport) -> None:
    whole_report.write(tmp_path / "report.json")
    assert EvalReport.read(tmp_path / "report.json") == whole_report
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    with pytest.raises(InputError, match="cannot be read: .*mgem eval nano --out FOLDER"):
        EvalReport.read(tmp_path / "none.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match="is not a report of mgem eval: Field required"):
        EvalReport.read(tmp_path / "other.json")


def test_parts_are_added_to_those_of_an_earlier_report(whole_report: EvalReport) -> None:
    later = whole_report.model_copy(update={"understanding": (), "drawing": None})
    assert later.with_parts_of(whole_report) == whole_report
    other = later.model_copy(update={"seed": 1})
    assert other.with_parts_of(whole_report) == other


def test_a_person_gets_tables(whole_report: EvalReport) -> None:
    console = Console(width=150, record=True, file=io.StringIO(), highlight=False)
    console.print(whole_report.render())
    text = console.export_text()
    for words in (
        "low, LR only",
        "read_small",
        "gain by HR",
        "50 % (30–70)",
        "with <GEN>, all",
        "one thing",
        "2.50 s each",
        "1 failed",
    ):
        assert words in text
