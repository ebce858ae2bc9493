"""Captions: the scene, the same looks, the style, within what CLIP reads."""

from __future__ import annotations

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
