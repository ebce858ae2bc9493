from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console

from mgem_agent.recipes.bench.measure import describe_machine
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.recipes.train.captioner.drawn_captions import DrawnCaption
from mgem_agent.recipes.train.captioner.report import CaptionerReport, Measured


def drawn(*scores: tuple[float, ...]) -> DrawnCaption:
    return DrawnCaption("two cats", "cats", ("a",) * len(scores), scores)


def test_gains_are_paired(requests: list[EvalPrompt]) -> None:
    before = [drawn((0.0, 1.0)), drawn((0.5, 0.5), (0.5, 1.0))]
    after = [drawn((0.5, 1.0)), drawn((0.75, 0.75), (0.75, 1.0))]
    kept = CaptionerReport.kept_of(before, after)
    assert (kept.before.mean, kept.after.mean, kept.gain.mean) == pytest.approx((56.25, 78.125, 21.875))
    assert kept.gain.low == pytest.approx(18.75) and kept.gain.high == pytest.approx(25)  # paired: far narrower
    skills = CaptionerReport.skills_of(requests, before, after)
    assert skills["count"] == pytest.approx((100 / 3, 200 / 3))
    assert CaptionerReport.skills_of(requests, [drawn((1.0,))] * 2, [drawn((1.0,))] * 2) == {}


def test_the_table_says_who_judged(requests: list[EvalPrompt]) -> None:
    before, after = [drawn((0.0, 1.0))] * 2, [drawn((1.0, 1.0))] * 2
    report = CaptionerReport(
        method="DPO", model="nano", generator="flat", reward="a", judge="a", num_requests=8, num_captions=3,
        num_pairs=5,
        kept=CaptionerReport.kept_of(before, after), skills=CaptionerReport.skills_of(requests, before, after),
        understanding=Measured.of([1.0, 0.0, 1.0], [1.0, 0.0, 1.0]), machine=describe_machine(torch.device("cpu")),
    )  # fmt: skip
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(report.render())
    text = console.export_text()
    assert "+50.0 (+50.0 to +50.0)" in text and "+0.0 (+0.0 to +0.0)" in text
    assert (
        "DPO on 8 requests with 3 captions each, which gave 5 pairs. Measured on 2 held-out requests and 3 questions."
        in text
    )
    assert "The judge is also the reward" in text
    assert CaptionerReport.model_validate_json(report.model_dump_json()) == report
