"""Evaluation of nano: understanding by kind of question, the drawing protocol and generated pictures."""

__all__: list[str] = []
