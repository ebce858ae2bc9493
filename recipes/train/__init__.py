"""Training of the core model in the paper's two stages, one program for nano and for 34B: `mgem train CONFIG`."""

__all__: list[str] = []
