from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F

from mgem_agent.recipes.eval.story.measures import copy_rate, cross_similarity, occm, self_similarity


def features(*rows: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*rows, 8, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_similarities_are_means_over_pairs() -> None:
    drawn, references = features(3), features(2, seed=1)
    pairs = [float(torch.dot(a, b)) for a in drawn for b in references]
    assert math.isclose(cross_similarity(drawn, references), sum(pairs) / 6, abs_tol=1e-6)
    own = [float(torch.dot(a, b)) for a, b in itertools.combinations(drawn, 2)]
    assert math.isclose(self_similarity(drawn), sum(own) / 3, abs_tol=1e-6)
    assert self_similarity(drawn[:1]) == 1.0


def test_a_page_with_one_of_two_characters_is_half_wrong() -> None:
    assert math.isclose(occm(1, 2), 100 * math.exp(-0.5), rel_tol=1e-5)
    assert occm(0, 0) == 100.0 and occm(2, 2) == 100.0


def test_a_copy_of_the_shown_reference_is_known() -> None:
    references = features(3, seed=2)
    copied, other = copy_rate(references[:1], references[:2]), copy_rate(references[1:2], references[:2])
    assert copied is not None and copied < 0.01
    assert other is not None and other > 0.99
    assert copy_rate(features(2), references[:1]) is None
    same = references[:1].expand(2, -1)
    assert copy_rate(features(2), same) == 0.5
