"""What the small models can do, measured on scenes that none of them was trained on.

`mgem eval nano | card`: questions about pictures, the protocol by which a reasoner draws, and pictures drawn.
"""

__all__: list[str] = []
