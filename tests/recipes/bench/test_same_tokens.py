"""Answers that are, token for token, those of float32."""

from __future__ import annotations

from mgem_agent.recipes.bench.same_tokens import compare_answers, prompts


def test_there_are_a_hundred_prompts() -> None:
    assert len(prompts(100)) == len(set(prompts(100))) == 100
    assert prompts(2) == ["Tell me about foxes.", "Write a short story about foxes."]


def test_the_place_of_the_first_other_token_is_counted() -> None:
    def ideal(prompt: str) -> list[int]:
        return [1, 2, 3]

    others = {"same": ideal, "other word": lambda _: [1, 9, 3], "shorter": lambda _: [1, 2]}
    same, other, shorter = compare_answers(ideal, others, 4)
    assert (same.share, same.parted, same.median_parted_after) == (1, (), None)
    assert (other.share, other.median_parted_after) == (0, 1)
    assert other.parted[0] == ("Tell me about foxes.", 1)
    assert shorter.median_parted_after == 2, "an answer that ends early differs where it ends"
