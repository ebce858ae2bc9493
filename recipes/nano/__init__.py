"""How nano is made: its synthetic world, the training of its two models, and their evaluation (see README.md)."""

__all__: list[str] = []
