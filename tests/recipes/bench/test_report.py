"""The report of benchmarks is one file with the machine, the versions, tables and plots."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rich.console import RenderableType

from mgem_agent import __version__
from mgem_agent.recipes.bench.comparison import Comparison, Machine, Run
from mgem_agent.recipes.bench.report import bars_of, report_html, write_report
from mgem_agent.recipes.bench.start import CommandTime, StartTimes

MACHINE = Machine(
    processor="A <fast> one",
    device="cpu",
    num_threads=2,
    torch="2.9",
    transformers="5.0",
    python="3.11",
    system="Linux",
)


def compared(ours: tuple[float, ...], other: tuple[float, ...]) -> Comparison:
    return Comparison(
        name="mining",
        setting="tiny",
        note="",
        ours_run=Run(label="ours & mine", seconds=ours),
        alternative_run=Run(label="theirs", seconds=other),
        max_abs_difference={},
        max_abs_value={},
        machine=MACHINE,
    )


STARTS = StartTimes(
    baseline=CommandTime(label="import torch", seconds=(2.0,), processor_seconds=(2.0,)),
    commands=(CommandTime(label="mgem draw", seconds=(4.0, 8.0), processor_seconds=(4.0, 4.0)),),
)


class Untimed:
    """A result without timed runs."""

    def render(self) -> RenderableType:
        return "only words"

    def model_dump(self, *, mode: str = "json") -> dict[str, object]:
        return {}


def test_bars_are_shares_of_the_longest_run() -> None:
    ours, other = bars_of(compared((1.0, 2.0, 3.0), (4.0, 8.0)))
    assert (ours.label, ours.text) == ("ours & mine", "2.00 s")
    assert (ours.fastest, ours.median, ours.slowest) == (0.125, 0.25, 0.375)
    assert (other.median, other.slowest) == (0.75, 1.0)
    assert [(bar.label, bar.is_ours) for bar in bars_of(STARTS)] == [("import torch", False), ("mgem draw", True)]
    assert bars_of(Untimed()) == [] and bars_of(compared((0.0,), (0.0,))) == []


def test_the_report_has_everything_and_no_address() -> None:
    html = report_html({"mining": compared((1.0,), (4.0,)), "start": STARTS, "words": Untimed()}, {"serve": "No <it>."})
    assert "A &lt;fast&gt; one" in html and "No &lt;it&gt;." in html and __version__ in html
    assert "ours &amp; mine" in html and "only words" in html and "mining: tiny" in html
    assert html.count("<svg") == 2 and html.count("<rect") == 4
    assert "http" not in html and "<script" not in html
    ET.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])


def test_it_is_written(tmp_path: Path) -> None:
    write_report(tmp_path / "out.html", {"start": STARTS})
    assert (tmp_path / "out.html").read_text().startswith("<!doctype html>")


def test_the_system_need_not_tell_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sysconf")
    assert "<dd>unknown</dd>" in report_html({})
