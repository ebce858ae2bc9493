"""What the reasoner can call: image generators, by one contract.

Nothing heavy is imported until a name is used.
"""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.tools.capabilities import Capabilities, Notice, negotiate
    from mgem_agent.tools.drawing import draw
    from mgem_agent.tools.image_generator import ImageGenerator
    from mgem_agent.tools.image_request import ImageRequest, ImageTask
    from mgem_agent.tools.image_result import GenerationProgress, ImageResult
    from mgem_agent.tools.registry import (
        GeneratorScheme,
        describe_generators,
        generator_schemes,
        make_generator,
        register_generator,
    )

__all__ = [
    "Capabilities",
    "GenerationProgress",
    "GeneratorScheme",
    "ImageGenerator",
    "ImageRequest",
    "ImageResult",
    "ImageTask",
    "Notice",
    "describe_generators",
    "draw",
    "generator_schemes",
    "make_generator",
    "negotiate",
    "register_generator",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Capabilities": "mgem_agent.tools.capabilities",
        "GenerationProgress": "mgem_agent.tools.image_result",
        "GeneratorScheme": "mgem_agent.tools.registry",
        "ImageGenerator": "mgem_agent.tools.image_generator",
        "ImageRequest": "mgem_agent.tools.image_request",
        "ImageResult": "mgem_agent.tools.image_result",
        "ImageTask": "mgem_agent.tools.image_request",
        "Notice": "mgem_agent.tools.capabilities",
        "describe_generators": "mgem_agent.tools.registry",
        "draw": "mgem_agent.tools.drawing",
        "generator_schemes": "mgem_agent.tools.registry",
        "make_generator": "mgem_agent.tools.registry",
        "negotiate": "mgem_agent.tools.capabilities",
        "register_generator": "mgem_agent.tools.registry",
    },
)
