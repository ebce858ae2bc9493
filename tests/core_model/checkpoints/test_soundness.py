"""Broken folders are refused before anything is built, in the same words by loading and by inspection."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.core_model.checkpoints.inspection import inspect_checkpoint
from mgem_agent.core_model.checkpoints.soundness import is_sound
from mgem_agent.errors import CheckpointError


@pytest.fixture
def folder(
    make_model: Callable[..., MiniGeminiForConditionalGeneration], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> Path:
    model = make_model()
    model.save_pretrained(tmp_path)
    MiniGeminiProcessor.from_model_config(model.config, tokenizer).save_pretrained(tmp_path)
    return tmp_path


def change(folder: Path, **fields: Any) -> None:
    """Change fields of `config.json`; those of its parts are named `part__field`."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    for name, value in fields.items():
        *parts, field = name.split("__")
        place = config
        for part in parts:
            place = place[part]
        place[field] = value
    file.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"text_config": None}, "does not describe a Mini-Gemini model: text_config must be objects"),
        ({"vision_config": []}, "does not describe a Mini-Gemini model: vision_config must be objects"),
        (
            {"text_config__num_hidden_layers": 1_000_000},
            "sets text_config.num_hidden_layers=1,000,000",
        ),
        (
            {"text_config__num_hidden_layers": 999},
            "sets text_config.num_hidden_layers=999, but its weight files hold only",
        ),
        ({"text_config__num_hidden_layers": -1}, "sets text_config.num_hidden_layers=-1"),
        ({"high_res_vision_config__depths": [1, 1, 10**9, 1]}, "sets high_res_vision_config.depths=1,000,000,003"),
        ({"text_config__intermediate_size": 10**7}, "describes a model of .* parameters, but its weight files hold"),
        ({"text_config__vocab_size": 10**9}, "describes a model of .* parameters, but its weight files hold"),
    ],
)
def test_configurations_that_their_weights_cannot_belong_to(folder: Path, fields: dict[str, Any], words: str) -> None:
    change(folder, **fields)
    with pytest.raises(CheckpointError, match=f"^'.*config.json' {words}"):
        MiniGeminiForConditionalGeneration.from_pretrained(folder)
    report = inspect_checkpoint(folder)
    assert not report.is_complete and words.split(" .*")[0] in report.problems[0]


def test_a_folder_without_configuration(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"^There is no 'config\.json' in"):
        MiniGeminiForConditionalGeneration.from_pretrained(folder)
    assert not is_sound(folder)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff\x00", b"[]", b'{"a": '])
def test_files_that_are_no_json(folder: Path, name: str, content: bytes) -> None:
    assert is_sound(folder)
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}' (cannot be read as JSON|must hold a JSON object)"):
        MiniGeminiForConditionalGeneration.from_pretrained(folder)
    assert not is_sound(folder)
    assert not inspect_checkpoint(folder).is_complete


def test_generation_options_of_the_wrong_kind(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"cache_implementation": "none such", "num_beams": "many"}')
    with pytest.raises(CheckpointError, match="generation_config.json' cannot be used: "):
        MiniGeminiForConditionalGeneration.from_pretrained(folder)


def test_large_json_files_are_looked_at_at_both_ends(folder: Path) -> None:
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().rstrip().rstrip("}") + " " * 1_000_001 + "}")
    assert is_sound(folder)
    file.write_bytes(file.read_bytes()[:-9])
    assert not is_sound(folder)


@pytest.mark.parametrize("content", [None, "{}", '{"version": "1.0"'])
def test_a_tokenizer_that_is_not_there_or_broken(folder: Path, content: str | None) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_text(content)
    with pytest.raises(
        CheckpointError, match="^The tokenizer of .* (cannot be loaded: |has \\d tokens: its files are)"
    ):
        MiniGeminiProcessor.from_pretrained(folder)


def test_weights_that_are_no_numbers_give_no_answer(
    make_model: Callable[..., MiniGeminiForConditionalGeneration],
) -> None:
    model: Any = make_model()
    model.lm_head.weight.data[7] = torch.nan
    with pytest.raises(CheckpointError, match=r"^The model computed NaN logits\."):
        model.generate(input_ids=torch.tensor([[1, 2]]), max_new_tokens=2)
