"""The plug-in of lmms-eval: any Mini-Gemini model as the model `mgem` of its command line.

lmms-eval pins many packages, so it has an environment of its own. This package never depends on it.
"""

__all__: list[str] = []
