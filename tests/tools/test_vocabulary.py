from __future__ import annotations

import pytest

from mgem_agent.errors import UnsupportedRequestError
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import Capabilities, ImageRequest, ImageResult, draw
from mgem_agent.tools.capabilities import negotiate
from mgem_agent.tools.vocabulary import Vocabulary, VocabularyWord

KNOWN = Vocabulary(
    things=(
        VocabularyWord(name="cat", phrase="a cat", names=("kitten",), plurals=("cats", "kittens"), colour="grey"),
        VocabularyWord(name="owl", phrase="an owl", plurals=("owls",)),
        VocabularyWord(name="socks", phrase="socks"),
    ),
    places=(
        VocabularyWord(name="snow", phrase="in the snow"),
        VocabularyWord(name="sea", phrase="on the sea", names=("ocean",)),
    ),
    near={"lake": "sea", "eagle": "owl"},
    default_place="snow",
    max_things=2,
)
FEW = Capabilities(vocabulary=KNOWN)


def drawn(prompt: str, capabilities: Capabilities = FEW) -> ImageResult:
    generator = FlatColourGenerator(size=(32, 32), capabilities=capabilities)
    [result] = [event for event in draw(generator, [ImageRequest(prompt=prompt)]) if isinstance(event, ImageResult)]
    return result


def test_a_caption_is_drawn_with_the_words_that_are_known() -> None:
    result = drawn("Two kittens chase an eagle by a lake")
    assert result.image is not None
    assert result.request.prompt == "Two kittens chase an eagle by a lake"
    assert result.executed.prompt == "a cat and an owl on the sea"
    assert [notice.message for notice in result.notices] == [
        "flat has a small vocabulary; 'eagle' is drawn as 'owl'; 'lake' is drawn as 'sea'; "
        "not drawn: 'chase', 'two kittens'."
    ]
    again = drawn(result.executed.prompt)
    assert (again.executed, again.notices) == (result.executed, ())


def test_a_caption_of_which_nothing_is_known_fails_with_its_words() -> None:
    result = drawn("a plate of spaghetti")
    assert result.image is None and isinstance(result.error, UnsupportedRequestError)
    assert str(result.error) == (
        "Generator 'flat' cannot do this: The caption names nothing that it can draw "
        "(not drawn: 'plate', 'spaghetti'). "
        "Use words from the list that `mgem generators NAME --things` prints, or use another generator."
    )
    assert "no thing and no place" in str(drawn("bright and warm").error)


def test_strict_refuses_what_is_not_drawn_whole() -> None:
    with pytest.raises(UnsupportedRequestError, match="not drawn: 'two cats'"):
        negotiate(ImageRequest(prompt="two cats"), FEW, generator="flat", strict=True)
    request, notices = negotiate(ImageRequest(prompt="a kitten"), FEW, generator="flat", strict=True)
    assert (request.prompt, notices) == ("a cat in the snow", ())


def test_without_a_vocabulary_a_caption_is_left_alone() -> None:
    result = drawn("a plate of spaghetti", Capabilities())
    assert (result.executed.prompt, result.notices) == ("a plate of spaghetti", ())


def test_a_place_alone_and_many_unknown_words() -> None:
    assert KNOWN.adapt("the ocean").prompt == "on the sea"
    message = KNOWN.adapt("a cat with ink jam oil tea gum fig rye tar wax").message
    assert message == "not drawn: 'ink', 'jam', 'oil', 'tea', 'gum', 'fig', 'rye', 'tar' and 1 more"


COUNTED = KNOWN.model_copy(
    update={
        "max_count": 3,
        "relations": {
            "to the left of": ("left of", "on the left and"),
            "above": ("above", "over", "on", "riding"),
            "below": ("below", "under"),
        },
        "head_wear": ("owl",),
    }
)


@pytest.mark.parametrize(
    ("caption", "prompt", "left_out"),
    [
        ("two kittens by a lake", "two cats on the sea", ()),
        ("3 owls", "three owls in the snow", ()),
        ("four owls", "an owl in the snow", ("four owls",)),
        ("several owls", "an owl in the snow", ("several owls",)),
        ("two cats and an owl", "a cat and an owl in the snow", ("two cats",)),
        ("a cat on the left and an owl on the right", "a cat to the left of an owl in the snow", ()),
        ("on the sea, an owl over a kitten", "an owl above a cat on the sea", ()),
        ("an eagle over a kitten", "an owl above a cat in the snow", ()),
        ("a cat riding a big old owl", "a cat above an owl in the snow", ()),
        ("a cat on a mat and an owl", "a cat and an owl in the snow", ("mat",)),
        ("an owl on a cat", "an owl above a cat in the snow", ()),
        ("a cat wearing an eagle", "a cat below an owl in the snow", ()),
        ("a cat with an owl", "a cat below an owl in the snow", ()),
        ("an owl wearing a cat", "an owl and a cat in the snow", ("wearing",)),
    ],
)
def test_a_generator_may_draw_counts_and_relations(caption: str, prompt: str, left_out: tuple[str, ...]) -> None:
    adapted = COUNTED.adapt(caption)
    assert (adapted.prompt, adapted.left_out) == (prompt, left_out)
    assert COUNTED.adapt(prompt).prompt == prompt
