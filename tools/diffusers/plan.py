"""Plan a request for a pipeline: fill in every value, report unsupported ones, and choose its batch.

Requests whose plans have the same key can be drawn in one call of the pipeline. The key has everything that must be
equal within a batch: the size, the steps, the number of pieces that the prompt is encoded in.
"""

from __future__ import annotations

import inspect
import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, get_args

from PIL import Image
from pydantic import JsonValue

from mgem_agent.errors import ImageError, UnsupportedRequestError
from mgem_agent.tools.capabilities import Notice
from mgem_agent.tools.diffusers.families import PipelineTraits
from mgem_agent.tools.diffusers.long_prompts import count_chunks, find_limit
from mgem_agent.tools.diffusers.options import DiffusersOptions
from mgem_agent.tools.image_request import ImageRequest

__all__ = ["Defaults", "DrawingPlan", "make_plan"]

_MAX_STEPS = 1000
"""Most steps that a request may have; the least strength that does anything is one of them."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """Default values for requests, instead of those of the pipeline.

    Attributes:
        num_inference_steps: Number of steps.
        guidance_scale: Guidance scale.
        seed: Seed of every picture; None for a new random one each time.
        options: Options of the request.
    """

    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    options: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DrawingPlan:
    """A request as it will be drawn.

    Attributes:
        request: The request with every value filled in, except a size that the pipeline chooses.
        key: Equal for requests that can be drawn in one batch.
        num_chunks: Number of pieces that the prompt is encoded in.
        start: Start picture, in the size of the result; for `edit`, unchanged.
        mask: White where it is redrawn, in the same size.
        references: Pictures whose subject or style to keep.
        notices: Arguments that were changed or left out.
    """

    request: ImageRequest
    key: tuple[Any, ...]
    num_chunks: int
    start: Image.Image | None
    mask: Image.Image | None
    references: tuple[Image.Image, ...]
    notices: tuple[Notice, ...]


def make_plan(
    request: ImageRequest,
    pipeline: Any,
    traits: PipelineTraits,
    *,
    defaults: Defaults,
    options: DiffusersOptions,
    pictures: Mapping[str, Image.Image],
) -> DrawingPlan:
    """Fill in the missing values of a request, and check the others.

    Args:
        request: The request, fitted by `negotiate`.
        pipeline: The loaded pipeline.
        traits: What its class supports.
        defaults: Values that override the pipeline's defaults.
        options: How it was loaded.
        pictures: The picture of each id.

    Raises:
        ImageError: If a picture is missing.
        UnsupportedRequestError: If it asks for more pictures or other options than the task takes.
    """
    missing = [name for name in request.picture_ids if name not in pictures]
    if missing:
        raise ImageError(f"Pictures {', '.join(map(repr, missing))} are missing. Pass them in `pictures`, by id.")
    filled = _fill_options(request, pipeline, traits, defaults, options)
    steered, notices = _fill_steering(request, traits, pipeline, filled, defaults, options)
    start, mask, references = _fit_pictures(request, pipeline, traits, pictures)
    size: tuple[int | None, int | None] = (
        request.width or traits.family.default_size,
        request.height or traits.family.default_size,
    )
    if start is not None and request.task != "edit":
        size = start.size
    elif start is not None and traits.needs_size:
        size = _choose_size(request, start.size, pipeline, traits.family.size_multiple)
    executed = request.model_copy(
        update={
            "width": size[0],
            "height": size[1],
            "seed": _choose_seed(request, defaults),
            "options": filled,
            **steered,
        }
    )
    num_chunks, cut = _measure_prompts(executed, pipeline, traits)
    return DrawingPlan(
        request=executed,
        key=_make_key(executed, traits, num_chunks, start, tuple(id(pictures[name]) for name in request.references)),
        num_chunks=num_chunks,
        start=start,
        mask=mask,
        references=references,
        notices=(*notices, *cut),
    )


def _choose_seed(request: ImageRequest, defaults: Defaults) -> int:
    """The seed asked for, else that of every picture, else a new one."""
    known = (request.seed, defaults.seed)
    return next((seed for seed in known if seed is not None), secrets.randbelow(2**32))


def _fill_steering(
    request: ImageRequest,
    traits: PipelineTraits,
    pipeline: Any,
    filled: Mapping[str, JsonValue],
    defaults: Defaults,
    options: DiffusersOptions,
) -> tuple[dict[str, Any], list[Notice]]:
    """Steps, guidance, strength and negative prompt as they will be used, and what of them cannot be honoured."""
    family, parameters = traits.family, traits.parameters[request.task]
    notices: list[Notice] = []
    guidance = request.guidance_scale
    if guidance is None and family.guidance is not None and family.guidance in parameters:
        known = (options.guidance_scale, defaults.guidance_scale, parameters[family.guidance])
        guidance = next((value for value in known if value is not None), None)
    strength = request.strength
    if strength is None and "strength" in parameters and request.task in ("image_to_image", "inpaint"):
        strength = float(parameters["strength"])
    steps = request.num_inference_steps or options.num_inference_steps or defaults.num_inference_steps
    steps = steps or int(parameters.get(family.steps) or 1)
    if strength is not None and steps * strength < 1:
        if strength * _MAX_STEPS < 1:
            message = f"{strength:g} has no effect; the minimum, {1 / _MAX_STEPS:g}, was used."
            notices.append(Notice(argument="strength", message=message))
            strength = 1 / _MAX_STEPS
        needed = math.ceil(1 / strength)
        needed += int(needed * strength) < 1  # 1 / strength may have been rounded down
        if request.num_inference_steps is not None:
            message = f"{steps} step(s) at strength {strength:g} round to zero; {needed} were used."
            notices.append(Notice(argument="num_inference_steps", message=message))
        steps = needed
    elif steps == 1 and _needs_two_steps(pipeline, filled):
        if request.num_inference_steps is not None:
            message = f"the scheduler {filled['scheduler']} needs at least 2 steps on this pipeline; 2 were used."
            notices.append(Notice(argument="num_inference_steps", message=message))
        steps = 2
    negative = request.negative_prompt or None
    if negative is not None and (reason := _unread_negative(family, guidance, filled)):
        notices.append(Notice(argument="negative_prompt", message=reason))
        negative = None
    steered = {
        "negative_prompt": negative,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "strength": strength,
    }
    return steered, notices


def _fill_options(
    request: ImageRequest, pipeline: Any, traits: PipelineTraits, defaults: Defaults, options: DiffusersOptions
) -> dict[str, JsonValue]:
    """Options as they will be used: those asked for, the model's, and the pipeline's own."""
    parameters = traits.parameters[request.task]
    special = {"scheduler", "decoder_num_inference_steps", "ip_adapter_scale"}
    foreign = sorted(name for name in request.options if name not in parameters and name not in special)
    if foreign:
        raise UnsupportedRequestError(
            f"task={request.task!r} does not take the options {', '.join(map(repr, foreign))}. Leave them out.",
            arguments=("options",),
        )
    own: dict[str, JsonValue] = {
        name: parameters[name] for name in traits.options & parameters.keys() if _is_plain(parameters[name])
    }
    if traits.two_stages:
        own["decoder_num_inference_steps"] = parameters["num_inference_steps"]
    elif traits.schedulers:
        own["scheduler"] = type(pipeline.scheduler).__name__
    if options.ip_adapter is not None and request.references:
        own["ip_adapter_scale"] = options.ip_adapter_scale
    if "clean_caption" in parameters:
        own["clean_caption"] = False  # the pipeline's own is True where Beautiful Soup happens to be installed
    given = {name: value for name, value in defaults.options.items() if name in parameters}
    filled = own | given | request.options
    missing = [package for package in ("bs4", "ftfy") if not find_spec(package)] if filled.get("clean_caption") else []
    if missing:
        raise UnsupportedRequestError(
            f"The option clean_caption needs the package(s) {', '.join(missing)}. Install them, or leave it out.",
            arguments=("options",),
        )
    return filled


def _needs_two_steps(pipeline: Any, filled: Mapping[str, JsonValue]) -> bool:
    """Whether one step alone fails: PixArt-alpha then wants the denoised picture, which not every scheduler gives."""
    if not type(pipeline).__name__.startswith("PixArtAlpha"):
        return False
    import diffusers

    scheduler = getattr(diffusers, str(filled["scheduler"]), type(pipeline.scheduler))
    outputs = get_args(inspect.signature(scheduler.step).return_annotation)
    return not any("pred_original_sample" in getattr(output, "__annotations__", ()) for output in outputs)


def _is_plain(value: object) -> bool:
    return isinstance(value, bool | int | float | str)


def _unread_negative(family: Any, guidance: float | None, filled: Mapping[str, JsonValue]) -> str | None:
    """Why the model would not read a negative prompt, or None if it would."""
    if family.true_cfg:
        scale = filled.get("true_cfg_scale")
        if not isinstance(scale, int | float) or scale <= 1:
            return (
                "this model uses a negative prompt only with options.true_cfg_scale above 1 (twice the time); "
                "it was left out."
            )
    elif guidance is not None and guidance <= family.guidance_floor:
        return f"a negative prompt has no effect with guidance_scale={guidance:g}; it was left out."
    return None


def _fit_pictures(
    request: ImageRequest, pipeline: Any, traits: PipelineTraits, pictures: Mapping[str, Image.Image]
) -> tuple[Image.Image | None, Image.Image | None, tuple[Image.Image, ...]]:
    """Start picture, mask and references as the pipeline takes them."""
    references = tuple(pictures[name].convert("RGB") for name in request.references)
    if request.image is None:
        return None, None, references
    start = pictures[request.image].convert("RGB")
    if request.task == "edit":
        most = traits.family.max_images
        if 1 + len(references) > most:
            raise UnsupportedRequestError(
                f"task='edit' takes {most} picture(s), the one to edit included; {1 + len(references)} were given. "
                "Leave out references.",
                arguments=("references",),
            )
        return start, None, references
    size = _choose_size(request, start.size, pipeline, traits.family.size_multiple)
    mask = None
    if request.mask is not None:
        mask = pictures[request.mask].convert("L").resize(size, Image.Resampling.NEAREST)
    return start.resize(size, Image.Resampling.LANCZOS), mask, references


def _choose_size(request: ImageRequest, size: tuple[int, int], pipeline: Any, multiple: int) -> tuple[int, int]:
    """Size asked for, or else that of the picture, no larger than the model was made for."""
    native = getattr(pipeline, "default_sample_size", None)
    if native is None and "unet" in pipeline.components:
        native = pipeline.unet.config.sample_size
    side = native * pipeline.vae_scale_factor if isinstance(native, int) else 1024
    shrink = min(1.0, side / math.sqrt(size[0] * size[1]))
    width, height = (max(round(edge * shrink / multiple), 1) * multiple for edge in size)
    return request.width or width, request.height or height


def _measure_prompts(request: ImageRequest, pipeline: Any, traits: PipelineTraits) -> tuple[int, list[Notice]]:
    """Pieces that the prompts are encoded in, and what of them is cut off."""
    prompts = {"prompt": request.prompt, "negative_prompt": request.negative_prompt or ""}
    if traits.family.clip_only:
        return count_chunks(pipeline, list(prompts.values())), []
    asked = request.options.get("max_sequence_length")
    limit = find_limit(pipeline, asked if isinstance(asked, int) else None, chat_template=traits.family.chat_template)
    cut = []
    for name, text in prompts.items():
        if limit is not None and text and (count := limit.count(text)) > limit.max_tokens:
            over = count - limit.max_tokens
            message = f"the prompt has {count} tokens, the model reads {limit.max_tokens}; the last {over} were cut."
            cut.append(Notice(argument=name, message=message))
    return 1, cut


def _make_key(
    request: ImageRequest,
    traits: PipelineTraits,
    num_chunks: int,
    start: Image.Image | None,
    references: tuple[int, ...],
) -> tuple[Any, ...]:
    alone: object = None if traits.batches else object()
    if request.references and not traits.family.clip_only:
        alone = object()  # such pipelines take a list of pictures as all of them for one prompt
    elif request.task == "edit" and traits.class_name != "FluxKontextPipeline":
        alone = object()
    return (
        request.task,
        request.width,
        request.height,
        request.num_inference_steps,
        request.guidance_scale,
        request.strength,
        request.negative_prompt is None,
        json.dumps(request.options, sort_keys=True),
        num_chunks,
        None if start is None else start.size,
        references,  # pipelines show the references of the first prompt to every prompt of a batch
        alone,
    )
