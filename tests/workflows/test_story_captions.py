"""Captions: the scene, the same looks, the style, within what CLIP reads."""

from __future__ import annotations

import pytest

from mgem_agent.workflows.story import StoryCharacter
from mgem_agent.workflows.story_captions import compose_caption, estimate_tokens, find_characters

PIP = StoryCharacter(
    name="Pip", looks="a small grey mouse with round ears, a green waistcoat, brown boots and " + "x " * 90
)
TOM = StoryCharacter(name="Old Tom", looks="a fat orange cat with a bell")


def test_the_order_is_scene_looks_style() -> None:
    assert compose_caption("A mouse runs.", [TOM], "soft watercolour.") == (
        "A mouse runs. Old Tom: a fat orange cat with a bell. soft watercolour"
    )


def test_looks_are_the_same_in_every_caption_and_the_scene_gives_way() -> None:
    scenes = ["A mouse runs.", "A mouse " + "walks slowly through the tall wet grass, " * 20]
    captions = [compose_caption(scene, [PIP, TOM], "soft watercolour " * 30) for scene in scenes]
    endings = {caption[caption.index("Pip: ") :] for caption in captions}
    assert len(endings) == 1
    assert all(estimate_tokens(caption) <= 75 for caption in captions)
    assert captions[1].startswith("A mouse walks slowly through the tall wet grass")


def test_a_crowd_costs_no_looks() -> None:
    crowd = [StoryCharacter(name=f"N{place}", looks="a tall man with a red hat and a blue coat") for place in range(8)]
    caption = compose_caption("They all stand in a row before the town hall.", crowd, "ink")
    assert caption.count("a tall man with a red hat and a blue coat") == 8
    assert caption.startswith("They all stand in a row before the town hall. N0:")


def test_who_is_in_a_scene() -> None:
    cast = [PIP, TOM]
    assert find_characters(cast, "Pip's key shines", "Old Tom") == ("Pip",)
    assert find_characters(cast, "the door", "old tom sleeps") == ("Old Tom",)
    assert find_characters(cast, "the pipe, tomorrow") == ()
    assert find_characters(cast, "the door", by_default=1) == ("Pip",)
    assert find_characters([StoryCharacter(name="The Dragon")], "A dragon sleeps.") == ("The Dragon",)


def test_tokens_are_counted_on_the_safe_side() -> None:
    assert estimate_tokens("a red fox, asleep") == 5
    assert estimate_tokens("extraordinarily") == 3


@pytest.mark.parametrize(
    ("scene", "looks", "style"),
    [
        (
            "一只小老鼠在城市里开了一家奶酪店，一只猫是它的第一位顾客，" * 9,
            "一条有金色眼睛的巨大红龙，" * 9,
            "柔和的水彩画，" * 9,
        ),
        (
            "小さなネズミが町でチーズ屋を開き、猫が最初のお客さんになりました。" * 9,
            "金色の目の大きな赤い竜、" * 9,
            "やわらかい水彩画",
        ),
        ("หนูตัวน้อยเปิดร้านขายชีสในเมืองและแมวเป็นลูกค้าคนแรก" * 9, "มังกรแดงตัวใหญ่" * 9, "สีน้ำ"),
    ],
)
def test_long_captions_in_scripts_without_blanks_are_cut_and_never_left_out(scene: str, looks: str, style: str) -> None:
    member = StoryCharacter(name="X", looks=looks)
    caption = compose_caption(scene, [member], style)
    parts = caption.split(". ")
    assert scene.startswith(parts[0]) and len(parts[0]) >= 20
    assert looks.startswith(parts[1].removeprefix("X: ")) and style.startswith(parts[2])
    assert estimate_tokens(caption) <= 75


def test_a_word_that_is_too_long_is_cut() -> None:
    assert compose_caption("x" * 3_000, [], "ink").startswith("x" * 60)


def test_who_is_in_a_scene_of_a_script_without_blanks() -> None:
    cast = [StoryCharacter(name=name) for name in ("小红", "伊丽莎白·贝内特", "หนูนา")]
    assert find_characters(cast, "小红走进森林。") == ("小红",)
    assert find_characters(cast, "第二天伊丽莎白来了。") == ("伊丽莎白·贝内特",)
    assert find_characters(cast, "วันหนึ่งหนูนาเดินไป") == ("หนูนา",)
    assert find_characters([PIP], "Pip走进森林。") == ("Pip",)
