"""`nano`: the models that ship in the package, small enough for two CPU cores.

The language model is downloaded once from the package index. All other weights are in `weights/`, each with a model
card that says how it was made and what it can do. Nothing heavy is imported until a name is used.
"""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.nano.drawing import NanoGenerator
    from mgem_agent.nano.language_model import find_language_model
    from mgem_agent.nano.reasoner import make_nano_reasoner
    from mgem_agent.nano.vision_language import find_nano, load_nano

__all__ = ["NanoGenerator", "find_language_model", "find_nano", "load_nano", "make_nano_reasoner"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "find_language_model": "mgem_agent.nano.language_model",
        "find_nano": "mgem_agent.nano.vision_language",
        "load_nano": "mgem_agent.nano.vision_language",
        "NanoGenerator": "mgem_agent.nano.drawing",
        "make_nano_reasoner": "mgem_agent.nano.reasoner",
    },
)
