"""Training of nano's encoders, mining and projector."""

__all__: list[str] = []
