from __future__ import annotations

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.world.holdout_split import belongs_to_split, composition_pairs, is_held_out_pair, text_pair
from mgem_agent.recipes.nano.world.scene import Split, sample_scene


def test_a_scene_depends_on_its_seed_and_index_only() -> None:
    scenes = [sample_scene(3, index) for index in range(20)]
    assert [sample_scene(3, index) for index in reversed(range(20))] == scenes[::-1]
    assert len({scene.seed for scene in scenes}) == 20
    assert sample_scene(4, 0) != scenes[0]
    assert sample_scene(3, 0, split="held_out").seed != scenes[0].seed


def test_no_held_out_composition_is_in_a_training_scene() -> None:
    train = {pair for index in range(200) for pair in composition_pairs(sample_scene(0, index))}
    assert not any(is_held_out_pair(*pair) for pair in train)
    for index in range(50):
        pairs = composition_pairs(sample_scene(0, index, split="held_out"))
        assert any(is_held_out_pair(*pair) for pair in pairs)


def test_the_order_of_a_pair_does_not_matter_and_one_in_twelve_is_held_out() -> None:
    pairs = [(f"a{number}", "b") for number in range(2400)]
    assert [is_held_out_pair(*pair) for pair in pairs] == [is_held_out_pair(b, a) for a, b in pairs]
    assert 150 < sum(is_held_out_pair(*pair) for pair in pairs) < 250


def test_drawable_scenes_have_one_or_two_large_things() -> None:
    for index in range(100):
        scene = sample_scene(0, index, kind="drawable")
        assert len(scene.objects) == (1 if scene.layout == "one" else 2)
        assert not (scene.texts or scene.shapes or scene.chart)
        for thing in scene.objects:
            assert 0.375 <= thing.size <= 0.75
            assert thing.size / 2 <= thing.x + 0.03 and thing.x - 0.03 <= 1 - thing.size / 2


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_posed_scenes_differ_in_what_is_shown_and_in_nothing_else(split: Split) -> None:
    places: dict[str, set[tuple[tuple[float, float, float, bool], ...]]] = {}
    details: dict[str, set[int]] = {}
    for index in range(100):
        scene = sample_scene(0, index, kind="posed", split=split)
        assert belongs_to_split(scene)
        stand = tuple((thing.x, thing.y, thing.size, thing.is_mirrored) for thing in scene.objects)
        places.setdefault(scene.layout, set()).add(stand)
        details.setdefault(scene.background, set()).add(scene.seed)
        for thing in scene.objects:
            assert min(thing.x, thing.y) - thing.size / 2 >= 0 and max(thing.x, thing.y) + thing.size / 2 <= 1
    assert set(places) == {"one", "two_beside"}
    assert all(len(each) == 1 for each in (*places.values(), *details.values()))


def test_both_splits_have_the_same_mixture() -> None:
    for split in ("train", "held_out"):
        layouts = [sample_scene(0, index, split=split, kind="drawable").layout for index in range(300)]  # type: ignore[arg-type]
        assert 0.5 < layouts.count("one") / 300 < 0.7


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="There is no scene -1 of seed 0, kind 'any', split 'train'"):
        sample_scene(0, -1)
    with pytest.raises(InputError, match="the split 'train' or 'held_out'"):
        sample_scene(0, 0, split="test")


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_a_page_is_words_whose_colours_belong_to_the_split(split: Split) -> None:
    pages = [sample_scene(0, index, kind="page", split=split) for index in range(20)]
    for page in pages:
        assert 4 <= len(page.texts) <= 14
        assert not page.objects and page.chart is None
        assert all(is_held_out_pair(*text_pair(text)) == (split == "held_out") for text in page.texts)
        assert all(0 < text.y < 1 for text in page.texts)
    assert {text.size for page in pages for text in page.texts} == {"small", "medium", "large"}


def test_patterns_show_nothing_and_their_colours_are_held_out() -> None:
    for split in ("train", "held_out"):
        for index in range(60):
            scene = sample_scene(0, index, kind="unclear", split=split)  # type: ignore[arg-type]
            assert scene.surface is not None and belongs_to_split(scene)
            assert not (scene.objects or scene.texts or scene.shapes or scene.chart)


def test_scenes_for_questions_have_more_charts_and_numbers() -> None:
    def share(kind: str, *layouts: str) -> float:
        return sum(sample_scene(0, index, kind=kind).layout in layouts for index in range(400)) / 400  # type: ignore[arg-type]

    assert share("asked", "chart_bar", "chart_pie") > 1.5 * share("any", "chart_bar", "chart_pie")
    assert share("asked", "count", "crowd") > 1.3 * share("any", "count", "crowd")
