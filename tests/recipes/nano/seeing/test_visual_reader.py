"""The recipe of the reader: it learns, resumes, and writes a model that has it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mgem_agent.core_model import MiniGeminiConfig
from mgem_agent.core_model.checkpoints.partial_checkpoint import WEIGHTS_FILE, load_without_language_model
from mgem_agent.core_model.visual_reader import BACKGROUND, PRINTED, THING
from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.seeing.patch_labels import visual_vocabulary
from mgem_agent.recipes.nano.seeing.region_facts import FACTS
from mgem_agent.recipes.nano.seeing.visual_reader import VisualReaderTraining, new_reader, train_visual_reader
from mgem_agent.recipes.train.config import ModelConfig
from mgem_agent.recipes.train.model_setup import load_model


@pytest.fixture
def small(small_model) -> Path:
    """A model in half precision, with a file beside its weights, as nano's folder has."""
    folder = small_model(torch.float16)
    (folder / "README.md").write_text("about it")
    return folder


def training(small: Path, encoder_parts, **settings) -> VisualReaderTraining:
    given = {
        "num_steps": 40, "batch_size": 8, "num_scenes": 20, "warmup_steps": 2, "learning_rate": 3e-3, "hidden_size": 32,
        "num_layers": 1, "log_every": 10,
    }  # fmt: skip
    return VisualReaderTraining(checkpoint=str(small), text=encoder_parts["text"], **{**given, **settings})


def test_the_reader_learns_and_nothing_else_changes(tmp_path: Path, small, encoder_parts, drawn_assets):
    folder = train_visual_reader(tmp_path / "run", training(small, encoder_parts), drawn_assets)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    assert {"right", *FACTS} <= set(lines[-1])
    weights, before = load_file(folder / WEIGHTS_FILE), load_file(small / WEIGHTS_FILE)
    assert all(torch.equal(weights.pop(name), value) for name, value in before.items())
    assert {name.split(".")[1] for name in weights} == {"reader"}
    assert weights["model.reader.label_ids"].dtype == torch.long
    assert weights["model.reader.label_head.weight"].dtype == torch.float16
    assert (folder / "README.md").read_text() == "about it"
    model = load_without_language_model(folder, encoder_parts["text"], dtype=torch.float32)
    assert model.config.geometry.num_reader_tokens == 40
    assert model.model.reader is not None


def test_it_resumes_and_a_reader_is_replaced(tmp_path: Path, small, encoder_parts, drawn_assets):
    config = training(small, encoder_parts, num_steps=6)
    folder = train_visual_reader(tmp_path / "run", config, drawn_assets)
    seen = (tmp_path / "run" / "tokens.npy").stat().st_mtime_ns
    assert train_visual_reader(tmp_path / "run", config, drawn_assets) == folder
    assert (tmp_path / "run" / "tokens.npy").stat().st_mtime_ns == seen
    wider = training(folder, encoder_parts, num_steps=1, hidden_size=64)
    again = train_visual_reader(tmp_path / "again", wider, drawn_assets)
    sizes = MiniGeminiConfig.from_pretrained(again).reader
    assert sizes is not None and sizes.hidden_size == 64
    assert load_file(again / WEIGHTS_FILE)["model.reader.input_proj.weight"].shape[0] == 64


def test_a_new_reader_names_what_the_projector_learned(small, encoder_parts):
    model, processor = load_model(ModelConfig(checkpoint=str(small), text=encoder_parts["text"]), torch.float32)
    reader = new_reader(model, processor.tokenizer, training(small, encoder_parts)).eval()
    vocabulary = visual_vocabulary()
    features = reader.label_embeds[[3, 5, 700 % len(vocabulary), 9]].expand(1, 4, -1)
    tokens = torch.randn(1, 4, model.config.vision_config.hidden_size)
    reader.position_embeds = torch.nn.Embedding(4, 32)
    assert reader(tokens, features).labels.argmax(-1).tolist() == [[3, 5, 700 % len(vocabulary), 9]]
    kinds = dict(zip(vocabulary, reader.label_kinds.tolist(), strict=True))
    assert (kinds["fox"], kinds["forest"], kinds["bar chart"], kinds['"cats"']) == (
        THING, BACKGROUND, BACKGROUND, PRINTED,
    )  # fmt: skip


def test_a_whole_checkpoint_is_refused(tmp_path: Path, encoder_parts, drawn_assets):
    config = VisualReaderTraining(checkpoint=str(tmp_path))
    with pytest.raises(InputError, match="is no folder without a language model"):
        train_visual_reader(tmp_path / "run", config, drawn_assets)
