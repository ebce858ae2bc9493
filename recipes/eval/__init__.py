"""The field's benchmarks, for any model: seeing, drawing and telling, by the measures of their authors."""

__all__: list[str] = []
