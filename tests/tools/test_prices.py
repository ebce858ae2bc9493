"""Prices are what the user states."""

from __future__ import annotations

import pytest

from mgem_agent.errors import InputError
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import ImageRequest, make_generator
from mgem_agent.tools.prices import Price, Prices

FOX = ImageRequest(prompt="a fox", width=2000, height=500)


def test_a_local_generator_is_free_and_another_has_no_known_price() -> None:
    assert Prices().of_picture(FlatColourGenerator(), FOX) == 0.0
    assert Prices().of_picture(make_generator("openai:gpt-image-1", api_key="k"), FOX) is None


@pytest.mark.parametrize("name", ["openai:gpt-image-1", "gpt-image-1", "openai"])
def test_a_price_is_found_by_name_model_or_scheme(name: str) -> None:
    prices = Prices({name: Price(picture=0.01, megapixel=0.02)})
    assert prices.of_picture(make_generator("openai:gpt-image-1", api_key="k"), FOX) == pytest.approx(0.03)
    elsewhere = make_generator("openai:gpt-image-1@https://example.org/v1", api_key="k")
    assert prices.of_picture(elsewhere, ImageRequest(prompt="a fox")) == pytest.approx(0.01 + 0.02 * 1.048576)


def test_an_answer_is_paid_by_tokens() -> None:
    prices = Prices({"gpt-5": {"input_tokens": 1.0, "output_tokens": 10.0, "as_of": "2026-01-31"}})
    assert prices.of_answer("openai:gpt-5", 1000, 100, is_charged=True) == pytest.approx(0.002)
    assert prices.of_answer("openai:gpt-4", 1000, 100, is_charged=True) is None
    assert prices.of_answer("nano", 1000, 100, is_charged=False) == 0.0


def test_a_wrong_price_is_refused() -> None:
    with pytest.raises(InputError, match=r"^A price is not valid: .* Fields: picture, megapixel, input_tokens, "):
        Prices({"x": {"picture": -1}})
