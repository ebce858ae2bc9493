from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from mgem_agent.core_model import MiniGeminiConfig
from mgem_agent.core_model.checkpoints import official_config
from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.paper.benchmarks import ablations, find_benchmarks, paper_benchmarks
from mgem_agent.recipes.eval.paper.tables import (
    ablation_table,
    check_ablation_model,
    paper_tables,
    read_ablation_models,
    training_table,
)


def shown(renderable: object) -> list[str]:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(renderable)
    return [" ".join(line.replace("│", " ").split()) for line in capture.get().splitlines()]


def test_our_values_are_above_the_published_ones() -> None:
    lines = shown(paper_tables({"YanweiLi/MGM-7B": {"TextVQA": "65.0", "POPE": "85.9"}}, paper_benchmarks()))
    assert "YanweiLi/MGM-7B 65.0 – – – – –" in lines
    assert "published 65.2 69.3 1523/316 40.8 36.1 31.4" in lines
    assert "YanweiLi/MGM-7B – 85.9 – – – – –" in lines and "published – – – – – – –" in lines
    assert "The paper's values of Table 6 are not public." in lines
    assert not any("Table 6" in line for line in shown(paper_tables({}, find_benchmarks(("MME",)))))


def test_ablations_are_beside_the_published_values() -> None:
    lines = shown(ablation_table({"data-ocr": {"TextVQA": "61.0", "MME": "1500/300", "MM-Vet": None}}))
    assert "+ OCR-related 336 768 576 61.0 61.6 1500 1523.5 – 33.7" in lines
    assert "Baseline 224 – 256 – 54.1 – 1467.1 – 30.7" in lines
    assert any(
        line.startswith("mining-224-512 2 + Info mining (ConvNeXt-L) ablation_mining_224_512_align")
        for line in shown(training_table())
    )


def test_models_of_rows_are_read(tmp_path: Path) -> None:
    file = tmp_path / "rows.yaml"
    file.write_text("data-ocr: runs/a\n")
    assert read_ablation_models(file) == {"data-ocr": "runs/a"}
    file.write_text("baseline-225: runs/a\n")
    with pytest.raises(InputError, match="Unknown rows: 'baseline-225'. Allowed: baseline-224"):
        read_ablation_models(file)
    file.write_text("- runs/a\n")
    with pytest.raises(InputError, match="does not name a model for each row"):
        read_ablation_models(file)
    with pytest.raises(InputError, match="There is no file"):
        read_ablation_models(tmp_path / "none.yaml")


def test_a_model_of_other_sizes_is_refused() -> None:
    rows = {each.id: each for each in ablations()}
    config = MiniGeminiConfig.from_dict(official_config("MGM-7B"))
    check_ablation_model(rows["data-allava"], config)
    with pytest.raises(InputError, match=r"sees 672/1536 px with 2880 tokens; this model sees 336/768 px with 576"):
        check_ablation_model(rows["token-extension"], config)
