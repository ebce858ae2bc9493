"""Checking the records of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mgem_agent.cli.app import app
from mgem_agent.recipes.train.config import TrainConfig
from mgem_agent.recipes.train.data_check import CheckReport, check_records, checked_examples
from mgem_agent.recipes.train.records import RecordFile

MakeRun = Callable[..., TrainConfig]


@pytest.fixture
def mixed(data_file: Path) -> Path:
    """Good records, and one of every kind that is dropped or repaired."""
    whole = RecordFile(data_file)
    (data_file.parent / "bad.png").write_bytes(b"no picture")
    question, answer = whole[8]["conversations"]
    records = [
        *(whole[position] for position in range(12)),
        whole[0] | {"image": "gone.png"},
        whole[0] | {"image": "bad.png"},
        {"conversations": [question, question, answer]},
        {"conversations": [question, answer | {"value": "long " * 100}]},
        {"conversations": whole[0]["conversations"]},
    ]
    file = data_file.parent / "mixed.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records) + "{\n", encoding="utf-8")
    return file


def test_every_kind_is_found(make_run: MakeRun, mixed: Path) -> None:
    config = make_run(data__sources=[{"path": str(mixed)}])
    found = check_records(checked_examples(config), 1)
    assert found.num_records == {str(mixed): 18}
    assert {reason: count for (_, reason), count in found.problems.items()} == {
        "missing picture": 1,
        "unreadable picture": 1,
        "malformed": 1,
        "too long": 1,
        "not JSON": 1,
    }
    assert found.repairs == {(str(mixed), "mark without a picture"): 1}
    assert [record.position for record in found.dropped] == [12, 13, 14, 15, 17]
    assert len(found.lengths) == 15 and max(found.lengths) > 500
    assert sum(count for _, count in found.histogram()) == 15


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")  # on one core
def test_several_processes_find_the_same(make_run: MakeRun, mixed: Path) -> None:
    examples = checked_examples(make_run(data__sources=[{"path": str(mixed)}] * 20))
    one, two = (check_records(examples, num_processes) for num_processes in (1, 2))
    assert one == two and len(one.dropped) == 100


def test_lengths_are_summed_up() -> None:
    report = CheckReport()
    report.lengths.extend([1, 128, 129, 600])
    assert report.histogram() == [(128, 2), (256, 1), (512, 0), (1024, 1)]
    assert [report.quantile(share) for share in (0.0, 0.5, 1.0)] == [1, 129, 600]
    assert CheckReport().histogram() == [(128, 0)] and CheckReport().quantile(0.5) == 0


def test_the_command_lists_what_would_be_dropped(make_run: MakeRun, mixed: Path, tmp_path: Path) -> None:
    config = make_run(data__sources=[{"path": str(mixed)}])
    file, out = tmp_path / "run.yaml", tmp_path / "dropped.jsonl"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    words = ["data", "check", str(file), "--processes", "1", "--out", str(out)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1  # on_broken is error
    lines = result.stdout.splitlines()
    assert lines[0].startswith("18 records, ")
    assert f"repaired: {mixed}: 1 mark without a picture" in lines
    assert "5 records would be dropped" in lines
    assert any("record 12: missing picture: there is no picture" in line for line in lines)
    assert len(out.read_text().splitlines()) == 5
    assert CliRunner().invoke(app, [*words, "data.on_broken=skip"]).exit_code == 0


def test_a_dry_run_prints_what_is_needed(make_run: MakeRun, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(make_run().model_dump(mode="json")), encoding="utf-8")
    result = CliRunner().invoke(app, ["train", str(file), "--dry-run", "--processes", "2"])
    assert result.exit_code == 0, result.output
    assert "lora" in result.stdout and "ZeRO-3" in result.stdout
    assert "12 records; 6 steps of 4; about " in result.stdout
    assert "Hours: measure a step" in result.stdout
    assert not (tmp_path / "run").exists()
