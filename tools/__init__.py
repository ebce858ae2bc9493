"""The tools that a reasoner calls: image generators behind one interface, image editing, and reading text (OCR).

Heavy packages are imported only when a name that needs them is used.
"""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.tools.budget import Budget, Budgets, Cost, Meter
    from mgem_agent.tools.capabilities import Capabilities, Notice, negotiate
    from mgem_agent.tools.drawing import draw
    from mgem_agent.tools.editing import EditedImage, edit_image
    from mgem_agent.tools.editing_plan import EditPlan, EditRequest, EditWay, plan_edit
    from mgem_agent.tools.image_generator import ImageGenerator
    from mgem_agent.tools.image_request import ImageRequest, ImageTask
    from mgem_agent.tools.image_result import GenerationProgress, ImageResult
    from mgem_agent.tools.look import Look
    from mgem_agent.tools.prices import Price, Prices
    from mgem_agent.tools.reading import ReadText, TextLine, can_read_text, read_text
    from mgem_agent.tools.registry import (
        GeneratorScheme,
        describe_generators,
        generator_schemes,
        make_generator,
        register_generator,
    )
    from mgem_agent.tools.shared_meter import SharedMeter

__all__ = [
    "Budget",
    "Budgets",
    "Capabilities",
    "Cost",
    "EditPlan",
    "EditRequest",
    "EditWay",
    "EditedImage",
    "GenerationProgress",
    "GeneratorScheme",
    "ImageGenerator",
    "ImageRequest",
    "ImageResult",
    "ImageTask",
    "Look",
    "Meter",
    "Notice",
    "Price",
    "Prices",
    "ReadText",
    "SharedMeter",
    "TextLine",
    "can_read_text",
    "describe_generators",
    "draw",
    "edit_image",
    "generator_schemes",
    "make_generator",
    "negotiate",
    "plan_edit",
    "read_text",
    "register_generator",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Budget": "mgem_agent.tools.budget",
        "Budgets": "mgem_agent.tools.budget",
        "Cost": "mgem_agent.tools.budget",
        "Look": "mgem_agent.tools.look",
        "Meter": "mgem_agent.tools.budget",
        "Price": "mgem_agent.tools.prices",
        "Prices": "mgem_agent.tools.prices",
        "SharedMeter": "mgem_agent.tools.shared_meter",
        "Capabilities": "mgem_agent.tools.capabilities",
        "EditPlan": "mgem_agent.tools.editing_plan",
        "EditRequest": "mgem_agent.tools.editing_plan",
        "EditWay": "mgem_agent.tools.editing_plan",
        "EditedImage": "mgem_agent.tools.editing",
        "GenerationProgress": "mgem_agent.tools.image_result",
        "GeneratorScheme": "mgem_agent.tools.registry",
        "ImageGenerator": "mgem_agent.tools.image_generator",
        "ImageRequest": "mgem_agent.tools.image_request",
        "ImageResult": "mgem_agent.tools.image_result",
        "ImageTask": "mgem_agent.tools.image_request",
        "Notice": "mgem_agent.tools.capabilities",
        "ReadText": "mgem_agent.tools.reading",
        "TextLine": "mgem_agent.tools.reading",
        "can_read_text": "mgem_agent.tools.reading",
        "describe_generators": "mgem_agent.tools.registry",
        "draw": "mgem_agent.tools.drawing",
        "edit_image": "mgem_agent.tools.editing",
        "generator_schemes": "mgem_agent.tools.registry",
        "make_generator": "mgem_agent.tools.registry",
        "negotiate": "mgem_agent.tools.capabilities",
        "plan_edit": "mgem_agent.tools.editing_plan",
        "read_text": "mgem_agent.tools.reading",
        "register_generator": "mgem_agent.tools.registry",
    },
)
