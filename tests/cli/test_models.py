"""`mgem models`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from mgem_agent.cli.app import app
from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration

runner = CliRunner()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A tiny model in this library's layout."""
    config = MiniGeminiConfig(
        text_config={
            "model_type": "llama",
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "vocab_size": 50,
        },
        vision_config={
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 7,
        },
        high_res_vision_config={"hidden_sizes": [2, 2, 2, 2], "depths": [1, 1, 1, 1]},
        high_res_image_size=64,
        image_token_id=50,
        dtype="float32",
    )
    folder = tmp_path / "model"
    MiniGeminiForConditionalGeneration(config).save_pretrained(folder)
    return folder


def run(*args: object, status: int = 0) -> Any:
    result = runner.invoke(app, ["models", *map(str, args)])
    assert result.exit_code == status, result.output
    return result


def test_list_shows_all_eleven() -> None:
    lines = run("list").stdout.splitlines()
    assert lines[0].split() == ["name", "language", "model", "px", "tokens", "dialogue", "here"]
    assert lines[1].split() == ["MGM-2B", "gemma-2b-it", "336/768", "576", "gemma", "no"]
    assert lines[11].split() == ["MGM-34B-HD", "Nous-Hermes-2-Yi-34B", "672/1536", "2880", "chatml_direct", "no"]
    assert lines[-1] == "To download one: hf download YanweiLi/NAME"


def test_list_as_json() -> None:
    rows = json.loads(run("list", "--json").stdout)
    assert len(rows) == 11
    assert rows[4] == {
        "hub_id": "YanweiLi/MGM-8x7B",
        "language_model": "mistralai/Mixtral-8x7B-Instruct-v0.1",
        "low_res_size": 336,
        "high_res_size": 768,
        "num_image_tokens": 576,
        "prompt_template": "mistral_instruct",
        "cached": None,
    }


def test_check_of_a_whole_folder(saved: Path) -> None:
    lines = run("check", saved).stdout.splitlines()
    facts = {line[:15].strip(): line[15:] for line in lines}
    assert facts["folder"] == str(saved)
    assert facts["what it is"] == "Mini-Gemini, this library's layout"
    assert facts["language model"] == "llama"
    assert facts["dialogue"] == "vicuna_v1"
    assert facts["images"] == "28 and 64 px, 16 tokens each"
    assert facts["types"].startswith("float32 (")
    assert facts["verdict"] == "complete"

    report = json.loads(run("check", saved, "--json").stdout)
    assert report["is_complete"] is True
    assert facts["parameters"] == f"{report['num_parameters']:,}"
    assert report["geometry"]["high_res_size"] == 64


def test_check_of_a_folder_that_is_not_whole(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 3
    (saved / "config.json").write_text(json.dumps(config))
    lines = run("check", saved, status=1).stdout.splitlines()
    assert lines[-1].split() == ["verdict", "not", "complete"]
    missing = [line[15:] for line in lines if line.startswith("missing")]
    assert missing[0] == "model.language_model.layers.1.input_layernorm.weight"
    assert missing[-1] == "and 8 more; list all with --json"
    assert len(json.loads(run("check", saved, "--json", status=1).stdout)["missing"]) == 18


def test_nano_is_checked_by_its_name(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgem_agent.nano.vision_language.find_nano", lambda: saved)
    assert run("check", "nano", "--json").stdout == run("check", saved, "--json").stdout


def test_check_of_what_is_not_here() -> None:
    result = run("check", "YanweiLi/MGM-7B", status=1)
    assert result.stderr == (
        "Error: 'YanweiLi/MGM-7B' is not a folder and is not in the local cache. Download it: "
        "hf download YanweiLi/MGM-7B\n"
    )


def test_convert(saved: Path, tmp_path: Path) -> None:
    result = run("convert", saved, tmp_path / "new", "--dtype", "bfloat16")
    assert result.stdout.splitlines()[0].split() == ["folder", str(tmp_path / "new")]
    assert MiniGeminiForConditionalGeneration.from_pretrained(tmp_path / "new").dtype == torch.bfloat16
    result = run("convert", saved, tmp_path / "new", status=1)
    assert "is not empty. Give another folder, or allow overwriting." in result.stderr
    run("convert", saved, tmp_path / "new", "--overwrite", "--max-shard-size", "1KB")
    assert len(list((tmp_path / "new").glob("*.safetensors"))) > 5


@pytest.mark.parametrize("command", ["list", "check", "convert"])
def test_help_says_what_a_command_does(command: str) -> None:
    assert "Usage: mgem models" in runner.invoke(app, ["models", command, "--help"], prog_name="mgem").stdout
