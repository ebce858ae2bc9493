"""The benchmarks of the Mini-Gemini paper, run by lmms-eval, beside the published values."""

__all__: list[str] = []
