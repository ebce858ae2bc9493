"""Display turns, stories and pictures: in a terminal, as plain text, or as JSON Lines."""

__all__: list[str] = []
