"""Visual words: which patch says what, and that mining and the projector learn it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from mgem_agent.core_model.mining import PatchInfoMining
from mgem_agent.recipes.data.scene import Chart, ChartPart, Scene, SceneObject, SceneText, sample_scene
from mgem_agent.recipes.data.scene_rendering import render_scene
from mgem_agent.recipes.train.config import ModelConfig
from mgem_agent.recipes.train.encoders import EncodersConfig, train_encoders
from mgem_agent.recipes.train.model_setup import load_model, load_trained
from mgem_agent.recipes.train.visual_words import (
    VisualWordsConfig,
    fold_norms,
    learning_rate_factors,
    patch_words,
    see,
    start_in_scale,
    train_visual_words,
    visual_vocabulary,
    word_embeds,
    word_loss,
)

VOCABULARY = visual_vocabulary()
NUMBERS = {word: number for number, word in enumerate(VOCABULARY)}


def test_the_vocabulary_tells_printed_words_from_things():
    assert {"tiger", '"tiger"', '"99"', "red circle", "beach", "plain blue"} <= set(VOCABULARY)
    assert len(set(VOCABULARY)) == len(VOCABULARY)


def test_a_patch_says_what_covers_it():
    scene = Scene(
        0, "beach",
        objects=(SceneObject("tiger", 0.25, 0.25, 0.5),),
        texts=(SceneText("sale", 0.7, 0.8, 0.03, "small", "black", "white"),),
    )  # fmt: skip
    words, is_background = patch_words(scene, 8, NUMBERS)
    said = [VOCABULARY[number] for number in words]
    assert said[0] == "tiger" and said[9] == "tiger"
    assert said[7] == "beach" and is_background[7]
    assert said[6 * 8 + 5] == '"sale"'  # though it covers little of the patch
    assert not is_background[9]
    large = Scene(0, "beach", texts=(SceneText("sale", 0.5, 0.5, 0.15, "large", "black", "white"),))
    assert patch_words(large, 8, NUMBERS)[0].tolist().count(NUMBERS['"sale"']) >= 4
    chart = Scene(0, "plain white", chart=Chart("bar", (ChartPart("cats", 3, "red"), ChartPart("dogs", 4, "blue"))))
    assert set(patch_words(chart, 8, NUMBERS)[0].tolist()) == {-100}


def test_the_first_piece_of_a_word_stands_out_and_a_printed_word_is_another():
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    )
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(torch.eye(8))
    pieces = {" tiger": [1], " t-rex": [2, 3, 4], "tiger": [5]}

    class Tokenizer:
        def __call__(self, text, add_special_tokens):
            return type("Words", (), {"input_ids": pieces[text]})

    table = word_embeds(model, Tokenizer(), ("tiger", "t-rex", '"tiger"'))
    torch.testing.assert_close(table[0], torch.eye(8)[1])
    torch.testing.assert_close(table[1, 2:5], torch.tensor([4.0, 2.0, 1.0]) / 7)
    torch.testing.assert_close(table[2], torch.eye(8)[5])


def test_the_loss_is_least_at_the_words_own_embeddings():
    torch.manual_seed(0)
    table, words = torch.randn(20, 32), torch.tensor([[3, 4, -100]])
    is_background = torch.tensor([[False, True, True]])
    config = VisualWordsConfig(vision="", high_res_vision="")
    there = table[[3, 4, 0]][None]
    loss, right = word_loss(there, words, is_background, table, config)
    assert right == 1.0
    assert loss < 0.01
    elsewhere, wrong = word_loss(there.roll(1, 1), words, is_background, table, config)
    assert wrong == 0.0
    assert elsewhere > 5
    doubled, _ = word_loss(2 * there, words, is_background, table, config)
    assert doubled > loss + 0.1  # the length counts


@pytest.fixture
def parts(tmp_path, tokenizer, drawn_assets) -> dict[str, str]:
    """Folders of small encoders and of a small language model."""
    encoders = EncodersConfig(
        num_steps=1, batch_size=2, low_res_px=64, high_res_px=128, window_px=64, width=32, num_layers=2,
        num_text_layers=1, embed_dim=16, vocab_size=400, convnext="test_convnext",
    )  # fmt: skip
    train_encoders(tmp_path / "encoders", encoders, drawn_assets)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=2, vocab_size=len(tokenizer)))
    text.save_pretrained(tmp_path / "text")
    tokenizer.save_pretrained(tmp_path / "text")
    folders = {"vision": "encoders/clip", "high_res_vision": "encoders/convnext", "text": "text"}
    return {name: str(tmp_path / folder) for name, folder in folders.items()}


def test_mining_and_projector_learn_and_the_next_stage_starts_from_them(tmp_path: Path, parts, drawn_assets):
    config = VisualWordsConfig(
        **parts, num_steps=60, batch_size=8, num_scenes=100, warmup_steps=5, high_res_image_size=128, scene_px=64,
        log_every=10,
    )  # fmt: skip
    file = train_visual_words(tmp_path / "words", config, drawn_assets)
    lines = [json.loads(line) for line in (tmp_path / "words" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
    weights = load_file(file)
    assert {name.split(".")[1] for name in weights} == {"mining", "multi_modal_projector"}
    model, _ = load_model(ModelConfig(**parts, prompt_template="chatml", high_res_image_size=128), torch.float32)
    load_trained(model, tmp_path / "words")
    name, value = next(iter(weights.items()))
    torch.testing.assert_close(model.get_parameter(name).data, value)


def test_scenes_are_seen_once_and_two_runs_end_alike(tmp_path: Path, parts, drawn_assets):
    config = VisualWordsConfig(
        **parts, num_steps=6, batch_size=4, num_scenes=10, warmup_steps=1, high_res_image_size=128, scene_px=64,
        log_every=1,
    )  # fmt: skip
    train_visual_words(tmp_path / "whole", config, drawn_assets)
    seen = (tmp_path / "whole" / "seen.npy").stat()
    file = train_visual_words(tmp_path / "whole", config, drawn_assets)
    assert (tmp_path / "whole" / "seen.npy").stat().st_mtime_ns == seen.st_mtime_ns
    again = train_visual_words(tmp_path / "again", config, drawn_assets)
    for name, value in load_file(file).items():
        torch.testing.assert_close(load_file(again)[name], value)


def test_mining_and_projector_start_in_the_scale_of_what_they_see_and_of_words(parts, drawn_assets):
    source = ModelConfig(**parts, prompt_template="chatml", high_res_image_size=128)
    model, processor = load_model(source, torch.float32)
    trunk = model.model
    pictures = [render_scene(sample_scene(0, index), drawn_assets, size_px=64) for index in range(4)]
    seen = see(trunk, processor.image_processor(pictures, return_tensors="pt"))
    table = 3 + 0.1 * torch.randn(50, 32, generator=torch.Generator().manual_seed(0))
    start_in_scale(trunk, seen, table)
    with torch.no_grad():
        tokens = seen.mined(trunk)
        rows = trunk.multi_modal_projector(tokens).flatten(0, 1)
    mined = (tokens - seen.low).flatten(0, 1).std(0)
    torch.testing.assert_close(mined, seen.low.flatten(0, 1).std(0), rtol=0.05, atol=1e-3)
    torch.testing.assert_close(rows.mean(0), table.mean(0), rtol=0, atol=1e-3)
    assert (rows - rows.mean(0)).square().mean().sqrt().item() == pytest.approx(0.1, rel=0.1)


def test_folding_changes_the_weights_and_not_what_they_compute():
    torch.manual_seed(0)
    mining = PatchInfoMining(query_dim=8, candidate_dim=6).double()
    for norm in (mining.query_norm, mining.key_norm, mining.value_norm):
        torch.nn.init.normal_(norm.weight, std=30)
        torch.nn.init.normal_(norm.bias, std=30)
    tokens = torch.randn(1, 16, 8).double()
    maps = [torch.randn(1, 2, 16, 16).double(), torch.randn(1, 4, 8, 8).double()]
    before = mining(tokens, maps)
    fold_norms(mining)
    assert mining.value_norm.weight.eq(1).all() and mining.key_norm.bias.eq(0).all()
    torch.testing.assert_close(mining(tokens, maps), before, rtol=1e-4, atol=1e-3)


def test_layers_that_start_larger_learn_in_larger_steps():
    layer, norm = torch.nn.Linear(300, 50), torch.nn.LayerNorm(50)
    with torch.no_grad():
        layer.weight *= 20
    factors = learning_rate_factors(torch.nn.Sequential(layer, norm))
    assert factors[layer.weight] == factors[layer.bias] == pytest.approx(20, rel=0.05)
    assert factors[norm.weight] == factors[norm.bias] == pytest.approx(1)
