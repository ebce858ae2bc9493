"""The encoders' recipe: batches of one kind, towers in the big ones' formats, and pictures told apart."""

import json

import pytest
import torch
from open_clip.loss import ClipLoss
from transformers import CLIPModel

from mgem_agent.core_model.high_res_encoder import HighResEncoder
from mgem_agent.recipes.nano.drawing.caption_tokenizer import train_caption_tokenizer
from mgem_agent.recipes.nano.seeing.clip_pretrain import ContrastiveModel, EncodersConfig, train_encoders
from mgem_agent.recipes.nano.seeing.scene_batch import batch_kinds, cut_out, scene_batch
from mgem_agent.recipes.nano.seeing.scene_regions import cut_window


@pytest.fixture
def config() -> EncodersConfig:
    return EncodersConfig(
        num_steps=3, batch_size=4, warmup_steps=1, low_res_px=32, high_res_px=64, window_px=32, width=32, num_layers=2,
        num_text_layers=1, embed_dim=16, vocab_size=400, convnext="test_convnext",
    )  # fmt: skip


def test_a_batch_is_of_one_kind_and_of_its_step(config, drawn_assets):
    printed = scene_batch(2, config, drawn_assets)
    assert printed.pixels.shape == (4, 3, 64, 64)
    assert all("word" in text or "number" in text or '"' in text for text in printed.captions)
    again, other = scene_batch(2, config, drawn_assets), scene_batch(4, config, drawn_assets)
    torch.testing.assert_close(printed.pixels, again.pixels, rtol=0, atol=0)
    assert printed.captions == again.captions != other.captions
    assert scene_batch(2, config, drawn_assets, split="held_out").captions != printed.captions


def test_the_towers_are_read_by_what_reads_the_big_ones(tmp_path, config, drawn_assets):
    folder = train_encoders(tmp_path, config, drawn_assets)
    clip = CLIPModel.from_pretrained(folder / "clip")
    assert clip.vision_model.config.image_size == 32
    encoder = HighResEncoder.from_open_clip(folder / "convnext")
    assert [stage.shape[-1] for stage in encoder(torch.zeros(1, 3, 64, 64))] == [16, 8, 4, 2]


def test_both_encoders_learn_to_tell_pictures_apart(tmp_path, config, drawn_assets):
    tokenizer = train_caption_tokenizer(tmp_path, 400, 24, drawn_assets, num_captions=20)
    torch.manual_seed(0)
    model = ContrastiveModel(config, tokenizer)
    batch = scene_batch(1, config, drawn_assets)
    words = tokenizer(batch.captions, padding=True, truncation=True, return_tensors="pt")
    optimizer, contrast = torch.optim.Adam(model.parameters(), lr=2e-3), ClipLoss()
    low = high = text = torch.zeros(0)
    for _ in range(40):
        text = model.text_embeds(words["input_ids"], words["attention_mask"])
        regions = batch.regions
        low = model.low_res_embeds(batch.pixels, regions.boxes).pictures
        high = model.high_res_embeds(batch.pixels, regions.boxes, regions.letter_boxes)[0].pictures
        loss = contrast(low, text, torch.tensor(10.0)) + contrast(high, text, torch.tensor(10.0))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    right = torch.arange(4)
    assert (low @ text.T).argmax(1).equal(right)
    assert (high @ text.T).argmax(1).equal(right)
    torch.testing.assert_close(low.norm(dim=-1), torch.ones(4))


def test_the_convnext_sees_a_window_and_what_is_said_of_it(config, drawn_assets):
    batch = scene_batch(2, config, drawn_assets)
    width, height = (batch.windows[:, 2:] - batch.windows[:, :2]).unbind(-1)
    assert width.tolist() == height.tolist() == [0.5] * 4
    assert batch.windows.min() >= 0 and batch.windows.max() <= 1
    boxes, is_inside = cut_window(batch.regions.boxes, batch.windows)
    there = batch.regions.labels >= 0
    assert (is_inside & there).any(1).all()  # each window shows something
    for row, said in enumerate(batch.window_captions):
        for label in batch.regions.labels[row][there[row]]:
            assert (batch.regions.phrases[label] in said) == bool(
                is_inside[row][batch.regions.labels[row] == label].any()
            )


def test_patches_learn_what_they_are_called(tmp_path, config, drawn_assets):
    run = train_encoders(tmp_path, config.model_copy(update={"num_steps": 90, "batch_size": 8}), drawn_assets)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.95 * lines[0]["loss"]
    assert max(line["drawable_low_parts"] for line in lines) > 0.03  # by chance: less than 0.01


def test_windows_are_cut_out_of_pictures():
    pictures = torch.arange(2 * 3 * 64 * 64.0).view(2, 3, 64, 64)
    windows = torch.tensor([[0.0, 0.25, 0.5, 0.75], [0.5, 0.5, 1.0, 1.0]])
    cut = cut_out(pictures, windows)
    assert cut.shape == (2, 3, 32, 32)
    torch.testing.assert_close(cut[0], pictures[0, :, 16:48, :32])
    torch.testing.assert_close(cut[1], pictures[1, :, 32:, 32:])


@pytest.mark.parametrize(("towers", "made"), [("low", ["clip"]), ("high", ["convnext"])])
def test_each_encoder_can_be_trained_alone(tmp_path, config, drawn_assets, towers, made):
    config = config.model_copy(update={"towers": towers, "num_steps": 4, "log_every": 1})
    folder = train_encoders(tmp_path, config, drawn_assets)
    assert [name for name in ("clip", "convnext") if (folder / name).exists()] == made
    logged = {name for line in (tmp_path / "log.jsonl").read_text().splitlines() for name in json.loads(line)}
    assert {f"{kind}_{towers}_parts" for kind in batch_kinds(config)} <= logged
    assert not any("low" in name if towers == "high" else "high" in name for name in logged)
