"""The benchmark of a dialogue: both ways say the same, round by round."""

from __future__ import annotations

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.bench.rounds import RoundsComparison, bench_rounds, build_tokenizer


def test_a_dialogue_is_the_same_in_both_ways() -> None:
    comparison = bench_rounds(rounds=4, image_every=2, answer_tokens=3, small=True, llm="none", repeats=2)
    assert comparison.same_answers
    assert "2 image(s)" in comparison.setting
    assert "All answers were the same, token for token." in comparison.note
    assert [each.number for each in comparison.rounds] == [1, 2, 3, 4]
    tokens = [each.prompt_tokens for each in comparison.rounds]
    assert tokens == sorted(tokens)
    assert tokens[2] - tokens[1] == 16 + tokens[3] - tokens[2], "the third round shows an image, the second does not"
    last = comparison.rounds[-1]
    assert (comparison.ours, comparison.alternative) == (last.ours_first_token, last.alternative_first_token)
    assert all(each.ours_first_token <= each.ours_answer for each in comparison.rounds)
    assert RoundsComparison.model_validate_json(comparison.model_dump_json()) == comparison


def test_growth_needs_a_second_round() -> None:
    comparison = bench_rounds(rounds=1, answer_tokens=1, small=True, llm="none")
    assert comparison.ours_growth is None and comparison.alternative_growth is None
    assert "1 image(s)" in comparison.setting
    longer = comparison.model_copy(
        update={
            "rounds": tuple(comparison.rounds[0].model_copy(update={"ours_first_token": s}) for s in (9.0, 2.0, 3.0))
        }
    )
    assert longer.ours_growth == 1.5
    assert longer.alternative_growth == 1.0


def test_each_id_is_a_word() -> None:
    tokenizer = build_tokenizer(20)
    assert len(tokenizer) == 20
    ids = list(range(3, 20))
    assert tokenizer.encode(tokenizer.decode(ids)) == ids
    assert tokenizer.encode("word3 </s> stranger") == [3, 2, 0]


def test_numbers_are_checked() -> None:
    with pytest.raises(InputError, match=r"^answer_tokens must be at least 1, got 0\.$"):
        bench_rounds(answer_tokens=0)
