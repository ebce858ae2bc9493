"""Programs that train, evaluate and measure the core model."""

__all__: list[str] = []
