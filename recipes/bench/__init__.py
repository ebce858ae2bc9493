"""Benchmarks: each compares our code with a named alternative, in one process and one run.

Run them with `mgem bench`. Most use random weights, which have the same speed and memory as trained ones.
"""

__all__: list[str] = []
