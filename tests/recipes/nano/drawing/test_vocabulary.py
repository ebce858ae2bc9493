"""The vocabulary of the generator in the box: that of its training, and captions that it maps onto themselves."""

from __future__ import annotations

import pytest

from mgem_agent.nano.drawing import DIFFUSION_WEIGHTS, VOCABULARY_FILE
from mgem_agent.recipes.nano.drawing.vocabulary import nano_vocabulary
from mgem_agent.recipes.nano.world.concepts import load_concepts
from mgem_agent.tools.vocabulary import Vocabulary

KNOWN = nano_vocabulary()


def test_the_box_has_the_vocabulary_of_its_training() -> None:
    file = DIFFUSION_WEIGHTS / VOCABULARY_FILE
    assert Vocabulary.model_validate_json(file.read_bytes()) == KNOWN
    assert (len(KNOWN.things), len(KNOWN.places)) == (261, 19)


def test_what_it_can_draw_is_asked_for_unchanged() -> None:
    for number, thing in enumerate(KNOWN.things):
        place = KNOWN.places[number % len(KNOWN.places)]
        other = KNOWN.things[(number * 7 + 13) % len(KNOWN.things)]
        for caption in (f"{thing.phrase} {place.phrase}", f"{thing.phrase} and {other.phrase} {place.phrase}"):
            adapted = KNOWN.adapt(caption)
            assert (adapted.prompt, adapted.message) == (caption, "")


def test_every_other_word_names_something_that_it_knows() -> None:
    names = {word.name for word in (*KNOWN.things, *KNOWN.places)}
    assert set(KNOWN.near.values()) <= names
    own = {name for word in (*KNOWN.things, *KNOWN.places) for name in (word.name, *word.names)}
    assert not own & KNOWN.near.keys()


def test_synonyms_and_plurals_are_found() -> None:
    for concept in load_concepts():
        found = {KNOWN.adapt(f"there is one {name} here").things for name in concept.names if name != "die"}
        assert found <= {(concept.name,), ()}, concept.name
    assert KNOWN.adapt("many wolves").things == ("wolf",)


@pytest.mark.parametrize(
    ("caption", "prompt", "message"),
    [
        ("two cats", "two cats on a plain blue background", ""),
        ("three red apples", "three red apples on a plain blue background", ""),
        ("five cats", "a cat on a plain blue background", "not drawn: 'five cats'"),
        ("an owl over a kitten", "an owl above a cat on a plain blue background", ""),
        (
            "a cat wearing a hat", "a cat below a top hat on a plain blue background", "'hat' is drawn as 'top hat'",
        ),
        ("a bear with a red scarf", "a bear and a scarf on a plain blue background", ""),
        ("a bear riding a bicycle", "a bear above a bicycle on a plain blue background", ""),
        ("a crown on a frog's head", "a crown above a frog on a plain blue background", "not drawn: 'head'"),
        ("a fox holding a balloon", "a fox and a balloon on a plain blue background", "not drawn: 'holding'"),
        ("a cosy cabin", "a house on a plain blue background", "'cabin' is drawn as 'house'"),
        ("a mouse with a golden key", "a mouse and a key on a plain blue background", ""),
        ("a plate of spaghetti", "", "not drawn: 'plate', 'spaghetti'"),
        ("ein Fuchs im Schnee", "", "not drawn: 'ein', 'fuchs', 'im', 'schnee'"),
        ("a snowman without a hat in the snow", "a snowman in the snow", ""),
        ("a robot in a garden", "a robot in a meadow", "'garden' is drawn as 'meadow'"),
        ("a fox, an owl and a bear in a forest", "a fox and an owl in a forest", "not drawn: 'bear'"),
        ("a blue dog on a red background", "a dog on a plain blue background",
         "not drawn: 'red background', 'blue dog'"),
        (
            "Fritz sleeps at night. Fritz: a small orange fox with a scarf. children's book illustration, warm light",
            "a fox and a scarf at night", "",
        ),
        ("a hedgehog at night. Ida: a small brown hedgehog. simple bright picture", "a hedgehog at night", ""),
    ],
)  # fmt: skip
def test_captions_as_people_write_them(caption: str, prompt: str, message: str) -> None:
    adapted = KNOWN.adapt(caption)
    assert (adapted.prompt, adapted.message) == (prompt, message)
