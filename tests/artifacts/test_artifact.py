from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from mgem_agent.artifacts import Artifact, PictureRecipe
from mgem_agent.tools import ImageRequest

FACTS: dict[str, Any] = {
    "id": "img-0123456789ab", "sha256": "0" * 64, "width": 4, "height": 3, "created": datetime(2026, 1, 2, tzinfo=UTC),
}  # fmt: skip


def test_it_round_trips_as_json() -> None:
    recipe = PictureRecipe(request=ImageRequest(prompt="a\nfox", seed=7), generator="flat", model="flat-colour")
    artifact = Artifact(**FACTS, recipe=recipe, parents=("img-1",), versions={"flat": "1"}, seconds=0.5)
    assert Artifact.model_validate_json(artifact.model_dump_json(exclude_none=True)) == artifact
    assert (artifact.seed, artifact.title) == (7, "a fox")


def test_a_picture_that_was_given_has_no_seed() -> None:
    artifact = Artifact(**FACTS, origin="holiday\x1b[31m.jpg")
    assert (artifact.seed, artifact.title) == (None, "holiday [31m.jpg")


@pytest.mark.parametrize(
    "wrong",
    [{"sha256": "0"}, {"width": 0}, {"created": datetime(2026, 1, 2)}, {"format": 2}, {"pixels": "x"}],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Artifact.model_validate(FACTS | wrong)


def test_what_a_server_says_stays_on_a_line() -> None:
    recipe = PictureRecipe(request=ImageRequest(prompt="x"), generator="g", model="a\nb\ud83dc" + "x" * 1000)
    assert recipe.model.startswith("a b c") and len(recipe.model) == 500
