"""Past one machine: batches of work, on Ray too, and models on the engines of others; imported only when used."""

__all__: list[str] = []
