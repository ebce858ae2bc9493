"""What the reasoner can call."""

__all__: list[str] = []
