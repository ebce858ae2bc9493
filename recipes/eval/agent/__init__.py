"""Does looking at pictures pay? The agent's strategies at an equal number of drawings, by GenEval 2's Soft-TIFA."""

__all__: list[str] = []
