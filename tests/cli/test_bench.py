"""`mgem bench`: one JSON object or tables, and errors in one line."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from mgem_agent.cli.app import app

RUNS = {
    "decode": ["--model", "small", "--tokens", "4", "--repeats", "1", "--threads", "1"],
    "mining": ["--small", "--repeats", "1", "--threads", "1"],
    "vision": ["--small", "--repeats", "1", "--threads", "1"],
    "agent": ["--turns", "4", "--single", "0.01", "--repeats", "1", "--threads", "1"],
    "story": ["--answer", "0", "--single", "0.01", "--batch-single", "0.01", "--threads", "1"],
    "rounds": ["--small", "--llm", "none", "--rounds", "2", "--answer-tokens", "2", "--threads", "1"],
}


@pytest.mark.parametrize("name", RUNS)
def test_json_is_one_object(name: str) -> None:
    result = CliRunner().invoke(app, ["bench", name, *RUNS[name], "--json"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert {"name", "ours", "alternative", "ratio", "unit", "machine"} <= printed.keys()
    assert (printed["name"], printed["unit"]) == (name, "s")
    assert printed["ratio"] == pytest.approx(printed["alternative"] / printed["ours"])
    assert printed["machine"]["torch"] == torch.__version__


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mining", ["TextbookPatchInfoMining", "extra memory", "Largest difference of the output"]),
        ("vision", ["textbook_image_features", "HR encoder", "LLaVA-1.5 56", "Weights and pixels are random"]),
        ("agent", ["create_agent, bare", "8 scenes", "session of 4 turns", "growth a turn", "time to resume"]),
        ("story", ["one after another", "writing alone", "both : longer", "8 pictures", "one by one"]),
        ("rounds", ["generate, afresh", "2 : 2", "All answers were the same, token for token."]),
    ],
)
def test_a_person_gets_tables(name: str, words: list[str]) -> None:
    result = CliRunner().invoke(app, ["bench", name, *RUNS[name]])
    assert result.exit_code == 0, result.output
    assert "threads: 1;" in result.stdout
    for word in words:
        assert word in result.stdout


def test_vision_measures_the_first_token() -> None:
    arguments = ["bench", "vision", "--first-token", "--small", "--llm", "none", "--repeats", "1", "--threads", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    for word in ("decoding the file", "HR encoder", "language model, prompt", "LR encoder only", "█"):
        assert word in result.stdout


def test_an_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    result = CliRunner().invoke(app, ["bench", "mining", "--device", "cuda"])
    assert result.exit_code == 1
    assert result.stdout == ""
    [line] = result.stderr.strip().splitlines()
    assert line == f"Error: No device 'cuda': torch {torch.__version__} sees 0 GPU(s). Use 'cpu'."


@pytest.mark.parametrize("name", RUNS)
def test_help_names_the_alternative(name: str) -> None:
    result = CliRunner().invoke(app, ["bench", name, "--help"])
    assert result.exit_code == 0
    assert "against" in result.stdout
    assert "--json" in result.stdout


def test_the_speed_of_training_has_json_and_a_table() -> None:
    options = ["--llm", "none", "--batch", "2", "--steps", "1", "--threads", "1", "--precision", "fp32"]
    result = CliRunner().invoke(app, ["bench", "train", *options, "--json"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert [run["label"] for run in printed["runs"]] == ["packed", "padded", "transformers' Trainer"]
    assert printed["ratios"]["transformers' Trainer"] == 1 and printed["pipeline"]["records_per_second"] > 0
    result = CliRunner().invoke(app, ["bench", "train", *options])
    assert "tokens/s" in result.stdout and "records a second on one core" in result.stdout


def test_what_is_not_understood_ends_with_status_2() -> None:
    assert CliRunner().invoke(app, ["bench", "mining", "--repeats", "0"]).exit_code == 2
    assert CliRunner().invoke(app, ["bench", "vision", "--llm", "gpt"]).exit_code == 2
