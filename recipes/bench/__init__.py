"""Benchmarks: each measures the core model against a named alternative, in one process and in one run.

`mgem bench mining | vision | rounds`. The weights are random; they say the same of speed and memory as trained ones.
"""

__all__: list[str] = []
