"""The reader: which entries it makes of patches, and how its words enter the language model's input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration
from mgem_agent.core_model.visual_reader import BACKGROUND, PRINTED, THING, VisualReader, VisualReaderConfig
from mgem_agent.errors import InputError, PromptError

SIZES = {
    "num_tokens": 8, "num_labels": 5, "label_length": 2, "facts": ["place", "number"], "fact_words": [2, 3],
    "fact_length": 1, "places": ["place"], "hidden_size": 8, "num_layers": 1, "num_heads": 2,
}  # fmt: skip
MEADOW, SEA, FOX, KEY, WORD = range(5)
END, BLANK = 90, 91
LEFT, RIGHT, ONE, TWO, THREE = 20, 21, 22, 23, 24


def known(reader: VisualReader) -> VisualReader:
    """Give a reader five labels and the words of two facts."""
    reader.label_ids.copy_(torch.tensor([[10, -1], [11, -1], [12, 13], [14, -1], [15, -1]]))
    reader.label_kinds.copy_(torch.tensor([BACKGROUND, BACKGROUND, THING, THING, PRINTED]))
    reader.fact_ids.copy_(torch.tensor([[LEFT], [RIGHT], [ONE], [TWO], [THREE]]))
    reader.mark_ids.copy_(torch.tensor([END, BLANK]))
    return reader


@pytest.fixture
def reader() -> VisualReader:
    return known(VisualReader(VisualReaderConfig.of(SIZES), 16, 6, 12)).eval()


def written(reader: VisualReader, shown: list[list[int]], place: int = 0, number: int = 0, p: float = 1.0) -> list[int]:
    """Return the reading of labels in a grid, each of probability p, with the same facts everywhere; 0 for none."""
    labels = p * F.one_hot(torch.tensor(shown).flatten(), 5).float()
    facts = [
        F.one_hot(torch.tensor([place] * len(labels)), 3).float(),
        F.one_hot(torch.tensor([number] * len(labels)), 4).float(),
    ]
    ids = reader.written(labels, facts)
    assert len(ids) == 8
    return [token for token in ids if token != BLANK]


def test_an_entry_is_a_label_with_its_facts_after_the_background(reader):
    shown = [[MEADOW] * 4, [MEADOW, FOX, FOX, MEADOW], [MEADOW, FOX, FOX, MEADOW], [SEA] * 4]
    assert written(reader, shown, place=1) == [10, LEFT, END, 12, 13, LEFT, END]
    assert written(reader, shown, place=1, number=1) == [10, LEFT, ONE, END]  # the other would need five


def test_entries_are_in_reading_order_and_the_same_thing_is_one_entry(reader):
    shown = [[KEY, MEADOW, MEADOW, FOX], [MEADOW] * 4, [MEADOW] * 4, [KEY, MEADOW, KEY, MEADOW]]
    assert written(reader, shown) == [10, END, 12, 13, END, 14, END]  # the keys are lower than the fox, in the mean
    shown[3] = [MEADOW] * 4
    assert written(reader, shown) == [10, END, 14, END, 12, 13, END]


def test_several_things_have_no_place(reader):
    shown = [[KEY, MEADOW, KEY, MEADOW]] + [[MEADOW] * 4] * 3
    assert written(reader, shown, place=2, number=2) == [10, RIGHT, TWO, END, 14, TWO, END]
    assert written(reader, shown, place=2, number=1) == [10, RIGHT, ONE, END, 14, RIGHT, ONE, END]


def test_uncertain_and_small_parts_of_things_are_left_out_but_small_print_is_not(reader):
    shown = [[FOX, FOX, FOX, KEY], [FOX, FOX, FOX, MEADOW], [MEADOW] * 4, [WORD, MEADOW, MEADOW, KEY]]
    assert written(reader, shown) == [10, END, 12, 13, END, 15, END]  # a sixth of the fox is no key
    assert written(reader, shown, p=0.5) == [10, END, 12, 13, END, 15, END]
    assert written(reader, shown, p=0.1) == [10, END]


def test_patches_touch_within_the_picture_only(reader):
    shown = [[MEADOW, MEADOW, MEADOW, KEY], [KEY, MEADOW, MEADOW, MEADOW]] + [[MEADOW] * 4] * 2
    assert written(reader, shown, p=0.6) == [10, END]  # two keys of one patch each, not one of two
    shown[0] = [KEY, MEADOW, MEADOW, MEADOW]
    assert written(reader, shown, p=0.6) == [10, END, 14, END]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_tokens": 0}, "num_tokens must be at least 1, got 0"),
        ({"num_heads": 3}, "hidden_size 8 is no multiple of num_heads 3"),
        ({"fact_words": [2]}, "2 facts have 1 fact_words"),
        ({"places": ["shape"]}, r"places has \['shape'\]"),
        ({"depth": 3}, "unexpected keyword argument 'depth'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changed: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        VisualReaderConfig.of({**SIZES, **changed})


@pytest.fixture
def model(make_config) -> MiniGeminiForConditionalGeneration:
    torch.manual_seed(0)
    config = make_config()
    config.reader_config = SIZES
    model = MiniGeminiForConditionalGeneration(config).eval()
    reader: Any = model.model.reader
    known(reader)
    reader.label_embeds.normal_()
    return model


def pixels(model: MiniGeminiForConditionalGeneration, number: int = 2) -> dict[str, torch.Tensor]:
    low, high = model.config.geometry.low_res_input_size, model.config.high_res_image_size or 0
    return {
        "pixel_values": torch.randn(number, 3, low, low),
        "high_res_pixel_values": torch.randn(number, 3, high, high),
    }


def test_the_words_follow_the_visual_tokens(model):
    geometry = model.config.geometry
    assert geometry.num_image_tokens == geometry.num_visual_tokens + 8
    given = pixels(model)
    seen: Any = model.get_image_features(**given)
    trunk: Any = model.model
    features = trunk.multi_modal_projector(seen.last_hidden_state)
    ids = trunk.reader.read(seen.last_hidden_state, features)
    assert ids.shape == (2, 8) and ids[0, 0] in (10, 11)
    for tokens, visual, row in zip(seen.pooler_output, features, ids, strict=True):
        torch.testing.assert_close(tokens, torch.cat([visual, model.get_input_embeddings()(row)]))


def test_prompts_need_room_for_both(model):
    number = model.config.geometry.num_image_tokens
    image = [model.config.image_token_id]
    ids = torch.tensor([[1, *image * number, 5, 6]])
    out = model.generate(input_ids=ids, **pixels(model, 1), max_new_tokens=3, do_sample=False)
    assert out.shape[1] == ids.shape[1] + 3
    with pytest.raises(PromptError, match=f"Each image needs {number}"):
        model(input_ids=torch.tensor([[1, *image * (number - 8), 5, 6]]), **pixels(model, 1))


def test_it_is_saved_with_the_model_and_token_ids_stay_exact(tmp_path: Path, model):
    reader: Any = model.model.reader
    reader.label_ids[0, 0] = 49_151  # float16 would round it
    model.half().save_pretrained(tmp_path)
    again = MiniGeminiForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert again.config.reader_config == model.config.reader_config
    assert torch.equal(again.model.reader.label_ids, reader.label_ids)
    torch.testing.assert_close(again.model.reader.fact_head.weight, reader.fact_head.weight.float())


def test_of_an_unknown_picture_it_says_one_word_only(model):
    given = pixels(model)
    seen: Any = model.get_image_features(**given)
    trunk: Any = model.model
    features = trunk.multi_modal_projector(seen.last_hidden_state)
    sure = trunk.reader.confidence(trunk.reader(seen.last_hidden_state, features))
    sizes = {**SIZES, "unknown": SEA, "least_confidence": sure.mean().item()}
    before = trunk.reader.read(seen.last_hidden_state, features)
    trunk.reader.config = VisualReaderConfig.of(sizes)
    after = trunk.reader.read(seen.last_hidden_state, features)
    unknown, known = int(sure.argmin()), int(sure.argmax())
    assert after[unknown].tolist() == [11, END, *[BLANK] * 6]
    assert torch.equal(after[known], before[known])


def test_crops_have_no_reader(make_config):
    fields = make_config(hd=True).to_dict()
    with pytest.raises(InputError, match="sees a picture as one crop, got image_grid=2"):
        MiniGeminiConfig(**{**fields, "reader_config": SIZES})
