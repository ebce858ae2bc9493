"""Prices of generators and reasoners, as the user states them. None are shipped, because they would be out of date.

What runs on this machine or in a private network costs nothing. Anything else has an unknown price until the user
states one: in the table `prices` of the configuration, or as an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mgem_agent.errors import InputError
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.spending import costs_money

__all__ = ["Price", "Prices"]

_MEGAPIXEL = 1_000_000
_USUAL_PX = 1024


class Price(BaseModel):
    """The price of a generator or a reasoner, in US dollars.

    Attributes:
        picture: For a picture.
        megapixel: For each million pixels of a picture, in addition.
        input_tokens: For a million tokens of input.
        output_tokens: For a million tokens of output.
        as_of: When the price was looked up, for the user's own reference, such as `2026-01-31`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    picture: float = Field(default=0.0, ge=0)
    megapixel: float = Field(default=0.0, ge=0)
    input_tokens: float = Field(default=0.0, ge=0)
    output_tokens: float = Field(default=0.0, ge=0)
    as_of: str = ""


class Prices:
    """A table of prices by name.

    A name is a generator's (`openai:gpt-image-1`), a reasoner's (`openai:gpt-5`), or the part before the colon, for all
    of them. The address of a server (`…@http://…`) may be left out.

    Args:
        table: Prices by name.

    Examples:
        >>> prices = Prices({"openai:gpt-5": {"input_tokens": 1.0, "output_tokens": 10.0}})
        >>> prices.of_answer("openai:gpt-5", 2000, 100, is_charged=True)
        0.003
        >>> prices.of_answer("openai:gpt-4", 2000, 100, is_charged=True) is None
        True

    Raises:
        InputError: If a price is not valid.
    """

    def __init__(self, table: Mapping[str, Price | Mapping[str, Any]] | None = None) -> None:
        try:
            self._table = {name: Price.model_validate(price) for name, price in (table or {}).items()}
        except ValidationError as error:
            raise InputError(
                f"A price is not valid: {error.errors()[0]['msg']}. Fields: {', '.join(Price.model_fields)}."
            ) from error

    def of(self, name: str) -> Price | None:
        """Return the price of a generator or reasoner; None if none is stated."""
        bare = name.partition("@")[0]
        names = (name, bare, bare.partition(":")[2], bare.partition(":")[0])
        return next((self._table[each] for each in names if each and each in self._table), None)

    def of_picture(self, generator: ImageGenerator, request: ImageRequest) -> float | None:
        """Return the price of a picture in US dollars; None if it is not known.

        Args:
            generator: The generator.
            request: The request. A side that it leaves open counts as 1,024 pixels.
        """
        price = self.of(generator.name)
        if price is None:
            return None if costs_money(generator) else 0.0
        size = (request.width or _USUAL_PX) * (request.height or _USUAL_PX) / _MEGAPIXEL
        return price.picture + price.megapixel * size

    def of_answer(self, reasoner: str, num_input: int, num_output: int, *, is_charged: bool) -> float | None:
        """Return the price of an answer in US dollars; None if it is not known.

        Args:
            reasoner: Name of the reasoner.
            num_input: Tokens of input.
            num_output: Tokens of output.
            is_charged: Whether the reasoner may cost money.
        """
        price = self.of(reasoner)
        if price is None:
            return None if is_charged else 0.0
        return (num_input * price.input_tokens + num_output * price.output_tokens) / _MEGAPIXEL
