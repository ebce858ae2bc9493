"""The benchmark of the vision part runs, and tells the time of each part."""

from __future__ import annotations

import pytest

from mgem_agent.recipes.bench.sizes import bench_config
from mgem_agent.recipes.bench.vision import Latency, VisionComparison, bench_vision


@pytest.mark.parametrize("hd", [False, True])
def test_it_measures_the_same_visual_tokens(hd: bool) -> None:
    comparison = bench_vision(hd=hd, small=True, repeats=1)
    assert comparison.max_abs_difference["visual tokens"] < 1e-5 < comparison.max_abs_value["visual tokens"]
    assert comparison.flops_ratio is not None and comparison.flops_ratio > 1
    methods = [row.method for row in comparison.latencies]
    name = "MGM-HD 112/256" if hd else "MGM 56/128"
    assert methods == ["LLaVA-1.5 56", f"{name} ours", f"{name} textbook"]
    assert VisionComparison.model_validate_json(comparison.model_dump_json()) == comparison


def test_each_part_has_its_time() -> None:
    comparison = bench_vision(small=True, repeats=2, batch=2)
    llava, ours, textbook = comparison.latencies
    assert llava.high_res_encoder is None
    for row in (ours, textbook):
        assert row.high_res_encoder is not None
        assert min(row.low_res_encoder, row.high_res_encoder, row.mining) > 0
    assert all(row.language_model is None for row in comparison.latencies)


def test_a_total_is_the_sum_of_the_parts() -> None:
    row = Latency(method="m", low_res_encoder=1, high_res_encoder=None, mining=2, language_model=4)
    assert row.total == 7
    assert row.model_copy(update={"high_res_encoder": 8.0}).total == 15


def test_the_language_model_is_timed_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = bench_config(small=True).text_config.to_dict()
    monkeypatch.setattr("mgem_agent.recipes.bench.sizes._SMOLLM2_135M", tiny)
    comparison = bench_vision(hd=True, small=True, repeats=1, llm="smollm2-135m")
    assert all((row.language_model or 0) > 0 for row in comparison.latencies)
    assert comparison.latencies[1].language_model == comparison.latencies[2].language_model
    [_, parts, paper] = comparison.tables()
    assert [row.method for row in comparison.published] == list(paper.columns[0].cells)
    assert round(comparison.published[3].total, 4) == 4.5707
    assert len(comparison.weights_sha256) == 64
    assert [column.header for column in parts.columns] == [
        "",
        "LR encoder",
        "HR encoder",
        "mining, projector",
        "LLM: smollm2-135m",
        "total",
    ]
