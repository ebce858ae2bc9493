"""Training data made here: scenes composed from a set of emoji pictures, and texts that teach when and what to draw.

`mgem data scenes | generation | teach | card`.
"""

__all__: list[str] = []
