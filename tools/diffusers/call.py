"""One call of a diffusers pipeline: a batch of plans gives a picture or an error for each.

Pipelines are called by keyword only, for some take a picture first and some a prompt. Each picture has a generator of
random numbers of its own, on the CPU, so that it is the same alone or in a batch and on every device. A drawing is
stopped by raising from the callback at the end of a step; `_interrupt`, which some pipelines have, would go on to
decode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from PIL import Image

from mgem_agent.errors import GeneratorOutputError, GeneratorRefusalError, MgemError
from mgem_agent.tools.diffusers.families import PipelineTraits
from mgem_agent.tools.diffusers.loading import make_scheduler
from mgem_agent.tools.diffusers.long_prompts import encode_in_chunks
from mgem_agent.tools.diffusers.masked_steps import MaskedSteps, needs_masked_steps
from mgem_agent.tools.diffusers.plan import DrawingPlan
from mgem_agent.tools.diffusers.previews import OnStep, PreviewDecoder, no_previews
from mgem_agent.tools.diffusers.signature import PICTURE_FIELDS, find_picture, find_placeholder
from mgem_agent.tools.image_request import ImageTask

if TYPE_CHECKING:
    import numpy as np

__all__ = ["DiffusersCall"]


class DiffusersCall:
    """A loaded pipeline with those that share its weights, one for each task.

    Never entered by two threads at once: schedulers and pipelines keep the state of a drawing in themselves.

    Args:
        pipeline: The loaded pipeline.
        traits: What its class can do.
        offload: Called with each pipeline that is made of the parts of the first, to place them as the first was.
    """

    def __init__(self, pipeline: Any, traits: PipelineTraits, *, offload: Callable[[Any], None]) -> None:
        self.pipeline = pipeline
        self.traits = traits
        self._offload = offload
        self._pipelines: dict[type[Any], Any] = {type(pipeline): pipeline}
        self._schedulers: dict[str, Any] = {}
        if traits.schedulers and not traits.two_stages:
            self._schedulers[type(pipeline.scheduler).__name__] = pipeline.scheduler

    def draw(self, plans: Sequence[DrawingPlan], on_step: OnStep) -> list[Image.Image | MgemError]:
        """Draw plans that have the same key.

        Returns:
            A picture (RGB) for each plan, or why there is none.

        Raises:
            GeneratorOutputError: If the pipeline gives no pictures, or not as many.
            GeneratorUnavailableError: If the scheduler asked for does not go with it.
        """
        task = self._drawn_as(plans[0].request.task)
        pipeline = self._pipeline_for(task)
        arguments = self._arguments(pipeline, plans, task)
        masked = MaskedSteps(pipeline, plans) if task != plans[0].request.task else None
        arguments.update(self._callbacks(pipeline, plans[0], task, on_step, masked))
        own = pipeline.scheduler if "scheduler" in plans[0].request.options else None
        try:
            if own is not None:
                pipeline.scheduler = self._scheduler_of(str(plans[0].request.options["scheduler"]))
            with _seeded(pipeline, plans[0].request.seed or 0):
                output = pipeline(**arguments)
        finally:
            if own is not None:
                pipeline.scheduler = own
            pipeline.maybe_free_model_hooks()
        import numpy as np

        images = next((getattr(output, name) for name in PICTURE_FIELDS if hasattr(output, name)), None)
        if not isinstance(images, np.ndarray) or images.ndim != 4 or len(images) != len(plans):
            shape = getattr(images, "shape", type(images).__name__)
            raise GeneratorOutputError(
                f"{type(pipeline).__name__} was asked for {len(plans)} picture(s) and returned {shape}. Check that the "
                "model draws pictures."
            )
        flagged = getattr(output, "nsfw_content_detected", None) or [False] * len(plans)
        return [_to_picture(pixels, flag) for pixels, flag in zip(images, flagged, strict=True)]

    def _drawn_as(self, task: ImageTask) -> ImageTask:
        """Return the task of the pipeline that draws a task."""
        return "image_to_image" if task == "inpaint" and needs_masked_steps(self.pipeline) else task

    def _pipeline_for(self, task: ImageTask) -> Any:
        """Return the pipeline of a task. It shares the components of the first, so no weight is in memory twice."""
        cls = self.traits.classes[task]
        if cls not in self._pipelines:
            import diffusers

            autos: dict[ImageTask, Any] = {
                "image_to_image": diffusers.AutoPipelineForImage2Image,
                "inpaint": diffusers.AutoPipelineForInpainting,
            }
            made = autos[task].from_pipe(self.pipeline)
            made.set_progress_bar_config(disable=True)
            self._offload(made)
            self._pipelines[cls] = made
        return self._pipelines[cls]

    def _scheduler_of(self, name: str) -> Any:
        if name not in self._schedulers:
            self._schedulers[name] = make_scheduler(self.pipeline, name)
        return self._schedulers[name]

    def _arguments(self, pipeline: Any, plans: Sequence[DrawingPlan], task: ImageTask) -> dict[str, Any]:
        """Return the arguments of the pipeline's call for all plans."""
        import torch

        first, family = plans[0].request, self.traits.family
        parameters = self.traits.parameters[task]
        arguments: dict[str, Any] = {
            name: value for name, value in first.options.items() if name in parameters and name != "scheduler"
        }
        if family.steps in parameters:
            arguments[family.steps] = first.num_inference_steps
        if self.traits.two_stages:
            arguments["num_inference_steps"] = first.options["decoder_num_inference_steps"]
        if family.guidance in parameters and first.guidance_scale is not None:
            arguments[str(family.guidance)] = first.guidance_scale
        if first.strength is not None:
            arguments["strength"] = first.strength
        for name, value in (("width", first.width), ("height", first.height)):
            if value is not None and name in parameters:
                arguments[name] = value
        if "max_area" in parameters and first.width and first.height:
            # Else the pipeline scales every size to a million pixels.
            arguments["max_area"] = first.width * first.height
        arguments.update(self._prompts(pipeline, plans))
        arguments.update(self._pictures(pipeline, plans))
        _name_pictures(arguments)
        arguments["generator"] = [torch.Generator("cpu").manual_seed(plan.request.seed or 0) for plan in plans]
        arguments["output_type"] = "np"  # before it is rounded to bytes, where a NaN is black
        return arguments

    def _prompts(self, pipeline: Any, plans: Sequence[DrawingPlan]) -> dict[str, Any]:
        first, family = plans[0].request, self.traits.family
        prompts = [plan.request.prompt for plan in plans]
        given = [plan.request.negative_prompt for plan in plans if plan.request.negative_prompt is not None]
        negatives = given or None  # all or none of a batch have one: it is part of the key
        clip_skip = first.options.get("clip_skip")
        if family.clip_only and (plans[0].num_chunks > 1 or clip_skip is not None):
            skip = clip_skip if isinstance(clip_skip, int) else None
            encoded = encode_in_chunks(pipeline, prompts, negatives, num_chunks=plans[0].num_chunks, clip_skip=skip)
            parameters = self.traits.parameters[first.task]
            taken: dict[str, Any] = {name: value for name, value in encoded.items() if name in parameters}
            return taken | ({"clip_skip": None} if clip_skip is not None else {})
        arguments: dict[str, Any] = {"prompt": prompts if self.traits.batches else prompts[0]}
        if negatives is not None:
            arguments["negative_prompt"] = negatives if self.traits.batches else negatives[0]
        elif family.blank_negative and (first.guidance_scale or 0.0) > family.guidance_floor:
            arguments["negative_prompt"] = [" "] * len(plans)
        return arguments

    def _pictures(self, pipeline: Any, plans: Sequence[DrawingPlan]) -> dict[str, Any]:
        """Start pictures, masks and references."""
        first = plans[0]
        arguments: dict[str, Any] = {}
        if first.request.task == "edit" and first.start is not None:
            if len(plans) > 1:
                arguments["image"] = [plan.start for plan in plans]
            else:
                arguments.update(self._shown([first.start, *first.references]))
            if "max_area" in self.traits.parameters["edit"] and first.request.width is None:
                arguments["width"], arguments["height"] = first.start.size
        elif self.traits.family.max_images and first.references:
            arguments.update(self._shown(first.references))
        elif first.start is not None:
            arguments["image"] = [plan.start for plan in plans]
            if first.mask is not None and self._drawn_as("inpaint") == "inpaint":
                arguments["mask_image"] = [plan.mask for plan in plans]
        if not self.traits.family.max_images:
            arguments.update(self._adapted(pipeline, plans))
        return arguments

    def _shown(self, pictures: Sequence[Image.Image]) -> dict[str, Any]:
        """Return pictures for one prompt, in the form that the pipeline takes."""
        name = self.traits.picture or "image"
        if name != "image":
            return {name: [list(pictures)]}  # one list for each prompt
        return {name: list(pictures) if self.traits.family.max_images > 1 else pictures[0]}

    def _adapted(self, pipeline: Any, plans: Sequence[DrawingPlan]) -> dict[str, Any]:
        """Return references for an IP-Adapter; its U-Net always needs some, so without any, a blank one of weight 0."""
        import torch

        unet = pipeline.components.get("unet")
        worn = unet is not None and unet.config.encoder_hid_dim_type == "ip_image_proj"
        references = plans[0].references
        if not worn and not references:
            return {}
        scale = plans[0].request.options.get("ip_adapter_scale", 0.0) if references else 0.0
        pipeline.set_ip_adapter_scale(scale)
        if unet is None:
            return {"ip_adapter_image": [references[0]]}
        guided = (plans[0].request.guidance_scale or 0.0) > 1 and unet.config.time_cond_proj_dim is None
        device = pipeline.image_encoder.device
        shown = [list(references) or [Image.new("RGB", (32, 32))]]
        with torch.no_grad():
            embeds = pipeline.prepare_ip_adapter_image_embeds(shown, None, device, 1, guided)
        return {"ip_adapter_image_embeds": embeds}

    def _callbacks(
        self, pipeline: Any, plan: DrawingPlan, task: ImageTask, on_step: OnStep, masked: MaskedSteps | None
    ) -> dict[str, Any]:
        """Return the arguments that report steps, in the form that the pipeline supports."""
        request = plan.request
        parameters = self.traits.parameters[task]
        steps = request.num_inference_steps or 1
        if self.traits.two_stages:
            decoding = request.options["decoder_num_inference_steps"]
            num_steps = steps + (decoding if isinstance(decoding, int) else 0)

            def after_first(pipeline: Any, index: int, timestep: Any, kept: dict[str, Any]) -> dict[str, Any]:
                on_step(min(index + 1, steps), num_steps, no_previews)
                return kept

            def after_second(pipeline: Any, index: int, timestep: Any, kept: dict[str, Any]) -> dict[str, Any]:
                on_step(min(steps + index + 1, num_steps), num_steps, no_previews)
                return kept

            return {"prior_callback_on_step_end": after_first, "callback_on_step_end": after_second}
        size = (request.width, request.height) if request.width and request.height else None
        decoder = PreviewDecoder(pipeline, size)
        if "callback_on_step_end" in parameters:

            def after(pipeline: Any, index: int, timestep: Any, kept: dict[str, Any]) -> dict[str, Any]:
                # Strength leaves out steps, and schedulers of second order take two for one.
                num_steps = int(getattr(pipeline, "num_timesteps", None) or steps)
                if masked is not None:
                    kept["latents"] = masked.after_step(timestep, kept["latents"])
                on_step(min(index + 1, num_steps), num_steps, decoder.after_step(kept.get("latents")))
                return kept

            return {"callback_on_step_end": after}
        if "callback" in parameters:

            def after_old(index: int, timestep: Any, latents: Any) -> None:
                on_step(min(index + 1, steps), steps, decoder.after_step(latents))

            return {"callback": after_old}
        return {}


@contextmanager
def _seeded(pipeline: Any, seed: int) -> Iterator[None]:
    """Seed torch's own random numbers for a call, for some pipelines take them where they forget `generator`."""
    import torch

    device = pipeline.device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def _name_pictures(arguments: dict[str, Any]) -> None:
    """Put words for each picture in front of the prompt, where the pipeline looks for them and the prompt has none."""
    name = find_picture(arguments)
    words = find_placeholder(name) if name is not None else None
    if name is None or words is None:
        return
    prompts = []
    for prompt, pictures in zip(arguments["prompt"], arguments[name], strict=True):
        named = [words.format(number) for number in range(1, len(pictures) + 1)]
        prompts.append(" ".join([*(word for word in named if word not in prompt), prompt]))
    arguments["prompt"] = prompts


def _to_picture(pixels: np.ndarray[Any, Any], flagged: bool) -> Image.Image | MgemError:
    """Convert values from 0 to 1, (height, width, 3), to a picture."""
    if flagged:
        return GeneratorRefusalError("The model's safety checker rejected the picture. Change the prompt or the seed.")
    import numpy as np

    if not np.isfinite(pixels).all():
        return GeneratorOutputError(
            "The model's output is NaN, which can happen in float16. Set the option dtype to 'bfloat16' or 'float32'."
        )
    return Image.fromarray((pixels * 255).round().astype(np.uint8)).convert("RGB")
