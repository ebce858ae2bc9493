"""Which generators cost money."""

from __future__ import annotations

import pytest

from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import make_generator
from mgem_agent.tools.spending import costs_money


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai:gpt-image-2", True),
        ("openai:m@https://images.example.com/v1", True),
        ("openai:m@http://93.184.215.14/v1", True),
        ("openai:m@http://127.0.0.1:8080/v1", False),
        ("openai:m@http://localhost:8080/v1", False),
        ("openai:m@http://192.168.1.7:8080/v1", False),
        ("openai:m@http://[fd00::7]:8080/v1", False),
        ("a1111:http://127.0.0.1:7860", False),
        ("flat", False),
    ],
)
def test_a_server_of_somebody_else_costs_money(name: str, expected: bool) -> None:
    assert costs_money(make_generator(name)) is expected


def test_a_generator_says_so_itself() -> None:
    class Charged(FlatColourGenerator):
        costs_money = True

    assert costs_money(Charged())
