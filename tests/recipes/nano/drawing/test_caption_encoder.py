"""The text encoder's recipe: what a caption asks for can be read from its last token."""

import random

import torch
from transformers import CLIPTextModel, CLIPTokenizer

from mgem_agent.recipes.nano.drawing.caption_encoder import (
    CaptionEncoderConfig,
    CaptionReader,
    drawn_caption,
    fact_loss,
    fact_sizes,
    scene_slots,
    tokenize_captions,
    train_caption_encoder,
)
from mgem_agent.recipes.nano.drawing.caption_tokenizer import train_caption_tokenizer
from mgem_agent.recipes.nano.world.backgrounds import BACKGROUNDS
from mgem_agent.recipes.nano.world.concepts import load_concepts
from mgem_agent.recipes.nano.world.scene import sample_scene

SMALL = CaptionEncoderConfig(num_steps=2, batch_size=2, width=64, num_layers=1, warmup_steps=1)


def test_slots_say_what_stands_where():
    names = [concept.name for concept in load_concepts()]
    layouts = set()
    for index in range(40):
        scene = sample_scene(0, index, kind="posed")
        background, *things = scene_slots(scene)
        assert BACKGROUNDS[background].name == scene.background
        found = [names[number] if number < len(names) else None for number in things]
        if scene.layout == "one":
            assert found == [scene.objects[0].concept, None, None]
        else:
            left, right = sorted(scene.objects, key=lambda thing: thing.x)
            assert found == [None, left.concept, right.concept]
        layouts.add(scene.layout)
    assert len(layouts) == 2


def test_what_is_padded_does_not_matter_and_it_learns(tmp_path, drawn_assets):
    tokenizer = train_caption_tokenizer(tmp_path, 400, 120, drawn_assets, num_captions=20)
    reader = CaptionReader(SMALL, tokenizer)
    scenes = [sample_scene(0, index, kind="posed") for index in range(8)]
    captions = [drawn_caption(scene, random.Random(index)) for index, scene in enumerate(scenes)]
    together, alone = tokenize_captions(tokenizer, captions, 48), tokenize_captions(tokenizer, captions[:1], 48)
    torch.testing.assert_close(reader(*together)[1][:1], reader(*alone)[1], rtol=1e-4, atol=1e-4)
    assert [scores.shape[1] for scores in reader(*together)] == list(fact_sizes())
    wanted = torch.tensor([scene_slots(scene) for scene in scenes])
    optimizer = torch.optim.Adam(reader.parameters(), lr=3e-3)
    _, right = fact_loss(reader(*together), wanted)
    assert right < 0.5
    for _ in range(150):
        loss, right = fact_loss(reader(*together), wanted)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert right == 1


def test_a_fact_is_right_alone_above_zero_and_none_where_there_is_none():
    scores = (torch.tensor([[2.0, -3.0], [-2.0, -1.0]]), torch.tensor([[-1.0, -1.0, 4.0], [-1.0, 5.0, -1.0]]))
    assert fact_loss(scores, torch.tensor([[0, 2], [2, 1]]))[1] == 1
    assert fact_loss(scores, torch.tensor([[0, 2], [0, 1]]))[1] == 0.5  # nothing was said where something is
    assert fact_loss(scores, torch.tensor([[0, 3], [2, 1]]))[1] == 0.5  # something was said where nothing is
    nothing = [torch.zeros(1, 2), torch.zeros(1, 3)]
    wrong, _ = fact_loss(nothing, torch.tensor([[2, 3]]))
    torch.testing.assert_close(wrong, torch.tensor(2.0).log() * 5 + torch.tensor(3.0).log() + torch.tensor(4.0).log())
    weak, strong = (fact_loss([torch.tensor([[score, -20.0]])], torch.tensor([[0]]))[0] for score in (4.0, 8.0))
    assert strong < 0.01 < 0.3 < weak


def test_the_folder_has_what_a_pipeline_has(tmp_path, drawn_assets):
    train_caption_tokenizer(tmp_path / "tokenizer", 400, 120, drawn_assets, num_captions=20)
    folder = train_caption_encoder(tmp_path, SMALL, drawn_assets)
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    words = tokenizer("a fox on a beach", padding="max_length", max_length=120, return_tensors="pt")
    assert encoder(**words).last_hidden_state.shape == (1, 120, 64)
