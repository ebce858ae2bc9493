"""`nano`: the models that come in the box, small enough for two cores of a laptop.

The language model is fetched once from the package index; everything else is in `weights/`, beside this file. What a
model is made of and what it can do stands in its model card there. Nothing heavy is imported until a name is used.
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
