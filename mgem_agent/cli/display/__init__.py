"""How a turn, a story and its pictures are shown: in a terminal, as plain text, or as JSON lines."""

__all__: list[str] = []
