"""Visual words: mining and the projector learn what patches say, and the encoders with them where they may."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from mgem_agent.core_model.checkpoints.partial_checkpoint import WEIGHTS_FILE
from mgem_agent.recipes.nano.seeing.visual_words import VisualWordsConfig, train_visual_words
from mgem_agent.recipes.train.config import ModelConfig
from mgem_agent.recipes.train.model_setup import load_model, load_trained


def test_mining_and_projector_learn_and_the_next_stage_starts_from_them(tmp_path: Path, encoder_parts, drawn_assets):
    config = VisualWordsConfig(
        **encoder_parts, num_steps=60, batch_size=8, num_scenes=100, warmup_steps=5, high_res_image_size=128,
        scene_px=64, log_every=10,
    )  # fmt: skip
    file = train_visual_words(tmp_path / "words", config, drawn_assets)
    lines = [json.loads(line) for line in (tmp_path / "words" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
    weights = load_file(file)
    assert {name.split(".")[1] for name in weights} == {"mining", "multi_modal_projector"}
    model, _ = load_model(
        ModelConfig(**encoder_parts, prompt_template="chatml", high_res_image_size=128), torch.float32
    )
    load_trained(model, tmp_path / "words")
    name, value = next(iter(weights.items()))
    torch.testing.assert_close(model.get_parameter(name).data, value)


def test_scenes_are_seen_once_and_two_runs_end_alike(tmp_path: Path, encoder_parts, drawn_assets):
    config = VisualWordsConfig(
        **encoder_parts, num_steps=6, batch_size=4, num_scenes=10, warmup_steps=1, high_res_image_size=128, scene_px=64,
        log_every=1,
    )  # fmt: skip
    train_visual_words(tmp_path / "whole", config, drawn_assets)
    seen = (tmp_path / "whole" / "seen.npy").stat()
    file = train_visual_words(tmp_path / "whole", config, drawn_assets)
    assert (tmp_path / "whole" / "seen.npy").stat().st_mtime_ns == seen.st_mtime_ns
    again = train_visual_words(tmp_path / "again", config, drawn_assets)
    for name, value in load_file(file).items():
        torch.testing.assert_close(load_file(again)[name], value)


@pytest.fixture
def small(small_model) -> Path:
    return small_model(torch.float32)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_encoders_of_a_checkpoint_learn_along(tmp_path: Path, encoder_parts, small, drawn_assets, precision):
    config = VisualWordsConfig(
        checkpoint=str(small), text=encoder_parts["text"], encoders="learn", precision=precision, num_steps=30,
        batch_size=8, num_scenes=16, warmup_steps=3, learning_rate=3e-3, scene_px=128, log_every=10,
    )  # fmt: skip
    file = train_visual_words(tmp_path / "words", config, drawn_assets)
    lines = [json.loads(line) for line in (tmp_path / "words" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
    assert not (tmp_path / "words" / "seen.npy").exists()
    weights, before = load_file(file), load_file(small / WEIGHTS_FILE)
    changed = {name.split(".")[1] for name, value in weights.items() if not torch.equal(value, before[name])}
    assert changed == {"mining", "multi_modal_projector", "vision_tower", "high_res_vision_tower"}
    assert torch.equal(weights["model.mining.value_norm.weight"], before["model.mining.value_norm.weight"])
    model, _ = load_model(ModelConfig(checkpoint=str(small), text=encoder_parts["text"]), torch.float32)
    load_trained(model, tmp_path / "words")


def test_there_are_more_scenes_for_encoders_that_learn_and_a_source_of_weights_is_needed():
    parts = {"vision": "a", "high_res_vision": "b"}
    assert VisualWordsConfig(**parts).num_scenes == 12_000
    assert VisualWordsConfig(**parts, encoders="learn").num_scenes == 1_000_000
    with pytest.raises(ValidationError, match="neither a checkpoint nor all its parts"):
        VisualWordsConfig().source  # noqa: B018


def test_each_fact_is_logged_and_names_alone_need_none(tmp_path: Path, encoder_parts, small, drawn_assets):
    options = {
        "checkpoint": str(small), "text": encoder_parts["text"], "encoders": "learn", "precision": "fp32",
        "num_steps": 2, "batch_size": 10, "warmup_steps": 1, "scene_px": 128, "log_every": 1,
    }  # fmt: skip
    for weight in (0.3, 0.0):
        folder = tmp_path / f"words{weight}"
        train_visual_words(folder, VisualWordsConfig(**options, fact_weight=weight), drawn_assets)
        line = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
        assert ("column" in line) == (weight > 0)
        assert "right" in line
