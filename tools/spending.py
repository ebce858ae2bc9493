"""Which generators cost money, so that a program can ask before it uses one.

A generator says so itself, by the optional property `costs_money`. One without it is free.
"""

from __future__ import annotations

from mgem_agent.tools.image_generator import ImageGenerator

__all__ = ["costs_money"]


def costs_money(generator: ImageGenerator) -> bool:
    """Whether somebody may be charged for each picture of a generator. No model is loaded, and no server is contacted.

    Args:
        generator: The generator.

    Examples:
        >>> from mgem_agent.testing import FlatColourGenerator
        >>> costs_money(FlatColourGenerator())
        False
    """
    return bool(getattr(generator, "costs_money", False))
