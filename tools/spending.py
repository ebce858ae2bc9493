"""Which generators cost money, so that a program can ask before it uses one.

A generator may have the property `costs_money`. A generator without it is free.
"""

from __future__ import annotations

from mgem_agent.tools.image_generator import ImageGenerator

__all__ = ["costs_money"]


def costs_money(generator: ImageGenerator) -> bool:
    """Whether pictures of a generator may cost money. No model is loaded, and no server is contacted.

    Args:
        generator: The generator.

    Examples:
        >>> from mgem_agent.testing import FlatColourGenerator
        >>> costs_money(FlatColourGenerator())
        False
    """
    return bool(getattr(generator, "costs_money", False))
