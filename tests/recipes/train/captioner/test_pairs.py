from __future__ import annotations

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.train.captioner.drawn_captions import DrawnCaption
from mgem_agent.recipes.train.captioner.pairs import CaptionPair, choose_pairs


def drawn(caption: str, *scores: float) -> DrawnCaption:
    return DrawnCaption("two cats", caption, ("img-1",), (scores,))


def test_the_best_and_the_worst_caption_make_a_pair() -> None:
    rows = [[drawn("a cat", 0.0, 1.0), drawn("two cats", 1.0, 0.75), drawn("a dog", 0.0, 0.25)]]
    assert choose_pairs(rows, 0.1) == [CaptionPair("two cats", "two cats", "a dog", 0.75)]


def test_the_score_of_a_caption_is_the_mean_of_its_pictures() -> None:
    twice = DrawnCaption("two cats", "two cats", ("a", None), ((1.0, 0.5), (0.0, 0.0)))
    assert twice.score == 0.375
    assert choose_pairs([[twice, drawn("a cat", 0.5, 0.75)]], 0.1)[0].chosen == "a cat"


@pytest.mark.parametrize(
    "row",
    [
        [drawn("a cat", 0.5, 0.5), drawn("two cats", 0.5, 0.625)],  # within the margin
        [drawn("a cat", 0.0, 0.0), drawn("a cat", 1.0, 1.0)],  # the same caption twice
        [drawn("", 0.0, 0.0), drawn("two cats", 1.0, 1.0)],  # no caption to learn from
        [drawn("", 0.0, 0.0)],
    ],
)
def test_captions_that_do_not_differ_make_no_pair(row: list[DrawnCaption]) -> None:
    good = [drawn("two cats", 1.0, 1.0), drawn("a dog", 0.0, 0.0)]
    assert len(choose_pairs([row, good], 0.1)) == 1
    with pytest.raises(InputError, match=r"None of 1 requests .* differ by 0.1 or more.*Raise sampling.temperature"):
        choose_pairs([row], 0.1)
