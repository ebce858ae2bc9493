"""How nano is made: its world of pictures, the training of what sees and what draws, and its evaluation."""

__all__: list[str] = []
