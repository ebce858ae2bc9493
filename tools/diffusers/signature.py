"""What a pipeline class of diffusers draws, read from the signature of its call.

A class is supported if its call takes a prompt, returns pictures, and needs nothing that a request does not carry. So
new classes work without a list of names. Only what no signature says is a table here: some classes give every parameter
a default and refuse the default when they are called.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
import sys
import typing
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from packaging.requirements import Requirement

from mgem_agent.tools.image_request import ImageTask

__all__ = [
    "PICTURE_FIELDS",
    "explain_no_edit",
    "explain_refusal",
    "find_guidance",
    "find_picture",
    "find_placeholder",
    "read_parameters",
    "read_tasks",
    "takes_lists",
]

_CARRIED = frozenset({"prompt", "image", "mask_image"})
"""Parameters without a default that a request can fill."""

PICTURE_FIELDS = ("images", "image")
"""Fields of an output that may hold pictures."""

_PLURALS = ("images", "input_images")
"""Parameters for any number of pictures to edit or to refer to, instead of `image`."""

_PLACEHOLDERS: Mapping[str, str] = {"input_images": "<img><|image_{}|></img>"}
"""Words that a prompt must have for each picture, by the parameter for pictures, and numbered from 1."""

_PACKAGES: Mapping[str, str] = {"CosmosSafetyChecker": "cosmos_guardrail"}
"""Parts that a pipeline makes itself, and the package of each; the pipeline refuses to draw without them."""

_RESULTS: Mapping[str, str] = {
    "audios": "sound",
    "coords_nm": "molecules",
    "frames": "video",
    "image_embeddings": "embeddings for a second pipeline",
    "image_embeds": "embeddings for a second pipeline",
    "prediction": "maps of depth or surfaces",
    "prompt_embeds": "embeddings for a second pipeline",
    "rgb": "a colour and a depth map",
    "texts": "text",
    "video": "video",
}
"""What an output holds, by its fields."""

_MOVING = frozenset({"num_frames", "video", "video_length"})
"""Parameters that only a pipeline for video has."""

_CONTROL_PARTS = frozenset({"adapter", "controlnet"})
"""Parts of a pipeline that read edges, depth or poses, whatever the parameter for them is called."""

_NOT_FROM_A_REQUEST: Mapping[str, str] = {
    "HunyuanImageRefinerPipeline": "refines a picture that another pipeline drew",
    "IFImg2ImgSuperResolutionPipeline": "enlarges a picture that another pipeline drew",
    "IFInpaintingSuperResolutionPipeline": "enlarges a picture that another pipeline drew",
    "IFSuperResolutionPipeline": "enlarges a picture that another pipeline drew",
    "Ideogram4Pipeline": "needs a guidance_schedule with one value for each step",
    "QwenImageLayeredPipeline": "splits a picture into layers",
    "StableDiffusionLatentUpscalePipeline": "enlarges a picture",
    "StableDiffusionPix2PixZeroPipeline": "needs source_embeds and target_embeds, which no request carries",
    "StableDiffusionUpscalePipeline": "enlarges a picture",
}
"""Classes whose signature looks like drawing or editing, and what they do or need instead."""

_NEEDS_PICTURE = frozenset(
    {
        "BriaFiboEditPipeline",
        "LongCatImageEditPipeline",
        "QwenImageEditPipeline",
        "QwenImageEditPlusPipeline",
        "StableDiffusionInstructPix2PixPipeline",
        "StableDiffusionXLInstructPix2PixPipeline",
        "StableUnCLIPImg2ImgPipeline",
    }
)
"""Classes that edit, and fail without a picture although `image` has a default."""


@dataclasses.dataclass(frozen=True, slots=True)
class _NoEdit:
    """Why a class that takes pictures cannot edit.

    Attributes:
        reason: The reason, as a sentence.
        releases: Releases of packages with which it was seen, as requirements; empty if it does not depend on them.
    """

    reason: str
    releases: tuple[str, ...] = ()


_NO_EDITS: Mapping[str, _NoEdit] = {
    "GlmImagePipeline": _NoEdit(
        "diffusers joins the features of all pictures of GLM-Image, and transformers reads them one by one, so every "
        "edit fails. Draw without a picture, or edit with another model.",
        ("diffusers>=0.42,<0.43", "transformers>=5.23,<5.25"),
    ),
    "StableCascadeCombinedPipeline": _NoEdit(
        "Stable Cascade draws something like its pictures and does not keep their composition."
    ),
    "UniDiffuserPipeline": _NoEdit("UniDiffuser reads a prompt or a picture, and not both in one call."),
}
"""Classes whose signature looks like editing, and that draw only. A release without the fault edits again."""


def explain_refusal(cls: type[Any]) -> str | None:
    """Say why a pipeline class cannot draw what a request asks for, as the end of a sentence; None if it can."""
    if not inspect.isfunction(cls.__call__):
        return "has no call of its own; it is a base for others"
    if reason := _NOT_FROM_A_REQUEST.get(cls.__name__):
        return reason
    if reason := _explain_output(cls) or _explain_missing(cls):
        return reason
    parameters = inspect.signature(cls.__call__).parameters
    needed = [
        name
        for name, parameter in list(parameters.items())[1:]
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD and name not in _CARRIED
    ]
    if "prompt" not in parameters:
        extra = f" and needs {', '.join(needed)}" if needed else ""
        return f"takes no prompt{extra}"
    if needed:
        return f"needs {', '.join(needed)}, which no request carries"
    parts = inspect.signature(cls.__init__).parameters
    controls = [name for name in parameters if name in ("control_image", "hint")]
    if controls or _CONTROL_PARTS & parts.keys():
        name = controls[0] if controls else "image"
        return f"needs a control picture as {name}, such as edges or depth, which no request carries"
    if "mask_image" in parameters and "image" not in parameters:
        return "needs latents of a picture, computed beforehand, which no request carries"
    if "RandomState" in str(getattr(parameters.get("generator"), "annotation", "")):
        return "runs on ONNX Runtime, and this generator runs PyTorch"
    return None


def _explain_output(cls: type[Any]) -> str | None:
    """Say what a class makes instead of pictures; None if it makes pictures."""
    parameters = inspect.signature(cls.__call__).parameters
    if "frame_size" in parameters:
        return "makes views of a 3D object instead of a picture"
    if _MOVING & parameters.keys():
        return "makes video instead of a picture"
    fields = _output_fields(cls)
    if not fields or any(name in fields for name in PICTURE_FIELDS):
        return None
    known = [_RESULTS[name] for name in fields if name in _RESULTS]
    return f"makes {known[0] if known else ' and '.join(fields)} instead of a picture"


def _explain_missing(cls: type[Any]) -> str | None:
    """Say which packages a class needs for its parts; None if they are installed."""
    parts = str([part.annotation for part in inspect.signature(cls.__init__).parameters.values()])
    missing = [package for part, package in _PACKAGES.items() if part in parts and not find_spec(package)]
    if not missing:
        return None
    return f"needs packages that are not all installed: {', '.join(missing)} (pip install {' '.join(missing)})"


def _output_fields(cls: type[Any]) -> list[str]:
    """Fields of what the call returns: by its annotation, else by the output classes that its module names."""
    from diffusers.utils.outputs import BaseOutput

    hint = inspect.signature(cls.__call__).return_annotation
    named = [kind for kind in (*typing.get_args(hint), hint) if _is_output(kind, BaseOutput)]
    found = named or [kind for kind in vars(sys.modules[cls.__module__]).values() if _is_output(kind, BaseOutput)]
    return [field.name for kind in found for field in dataclasses.fields(kind)]


def _is_output(kind: object, base: type[Any]) -> bool:
    return isinstance(kind, type) and issubclass(kind, base) and dataclasses.is_dataclass(kind)


def read_tasks(cls: type[Any]) -> tuple[ImageTask, ...]:
    """Tasks that a pipeline class does by itself; none if :func:`explain_refusal` has a reason."""
    if explain_refusal(cls) is not None:
        return ()
    parameters = inspect.signature(cls.__call__).parameters
    picture = find_picture(parameters)
    if picture is None or explain_no_edit(cls) is not None:
        return ("text_to_image",)
    if "mask_image" in parameters:
        return ("inpaint",)
    if "strength" in parameters:
        return ("image_to_image",)
    return ("edit",) if _needs_picture(cls) else ("text_to_image", "edit")


def explain_no_edit(cls: type[Any]) -> str | None:
    """Say why a class cannot edit although its signature takes pictures, in sentences; None if there is no such reason.

    A fault between packages counts only with the releases that have it, which are then named.
    """
    found = _NO_EDITS.get(cls.__name__)
    if found is None:
        return None
    requirements = [Requirement(release) for release in found.releases]
    installed = {each.name: importlib.metadata.version(each.name) for each in requirements}
    if not all(each.specifier.contains(installed[each.name], prereleases=True) for each in requirements):
        return None
    seen = " and ".join(f"{name} {version}" for name, version in installed.items())
    return f"With {seen}: {found.reason}" if seen else found.reason


def _needs_picture(cls: type[Any]) -> bool:
    """Whether a class that edits draws nothing without a picture."""
    parameters = inspect.signature(cls.__call__).parameters
    image = parameters[find_picture(parameters) or "image"]
    return image.default is image.empty or cls.__name__ in _NEEDS_PICTURE


def find_picture(parameters: Mapping[str, Any]) -> str | None:
    """Name of the parameter for the picture to start from or to edit, and for references; None if there is none."""
    return next((name for name in ("image", *_PLURALS) if name in parameters), None)


def find_placeholder(picture: str) -> str | None:
    """Words that a prompt must have for each picture given as `picture`, with {} for its number; None if none."""
    return _PLACEHOLDERS.get(picture)


def read_parameters(cls: type[Any]) -> dict[str, Any]:
    """Parameters of a pipeline's call, each with its default, or None where it has none."""
    return {
        name: None if parameter.default is inspect.Parameter.empty else parameter.default
        for name, parameter in inspect.signature(cls.__call__).parameters.items()
    }


def find_guidance(parameters: Mapping[str, Any]) -> str | None:
    """Name of the parameter for guidance.

    A guidance scale whose default is None is for distilled weights only, so one with a number comes first.
    """
    names = ("guidance_scale", "true_cfg_scale", "distilled_guidance_scale", "decoder_guidance_scale")
    return next((name for name in names if isinstance(parameters.get(name), int | float)), None)


def takes_lists(cls: type[Any]) -> bool:
    """Whether a call takes several prompts at once, and draws each as it would draw it alone.

    A class with `prior_token_ids` lets a language model write them, and seeds it for the first prompt only.
    """
    parameters = inspect.signature(cls.__call__).parameters
    if "prior_token_ids" in parameters:
        return False
    prompt = parameters["prompt"].annotation
    return prompt is inspect.Parameter.empty or "list" in str(prompt).lower()
