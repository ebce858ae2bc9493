"""What each pipeline class of diffusers can do, and the short names of the usual models.

Most of it is read from the signature of the class, so that a pipeline which this page does not name works as well. The
table adds what no signature says: which argument guidance goes to, from where on a negative prompt is read, how many
pictures an edit model takes, by how many pixels sizes go. Nothing here loads weights, and only :func:`describe_class`
imports diffusers.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from mgem_agent.errors import GeneratorUnavailableError
from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.tools.diffusers.logging import quiet_diffusers
from mgem_agent.tools.image_request import ImageTask

__all__ = ["COMBINED", "PRESETS", "Family", "PipelineTraits", "Preset", "describe_class"]


@dataclass(frozen=True, slots=True)
class Family:
    """What the signature of a pipeline does not say.

    Attributes:
        size_multiple: Width and height are multiples of this, in pixels: the factor of the autoencoder times the patch.
        guidance: Parameter that `ImageRequest.guidance_scale` goes to; None where the model has none.
        guidance_floor: Guidance up to which nothing is guided, and a negative prompt not read.
        steps: Parameter that `ImageRequest.num_inference_steps` goes to.
        true_cfg: Whether negative prompts are read only with the option `true_cfg_scale` above 1.
        blank_negative: Whether guidance needs a negative prompt, if only a blank one.
        clip_only: Whether every text encoder is CLIP's, of 77 tokens, and prompts can be given as embeddings.
        chat_template: Whether the prompt is put into the tokenizer's chat template, which takes tokens too.
        max_images: Pictures that an edit or reference model takes as `image`; 0 where it is none.
        needs_image: Whether such a model draws nothing without one.
        max_adapter_images: Pictures that an IP-Adapter on this pipeline takes; 0 where there are no such adapters.
    """

    size_multiple: int = 32
    guidance: str | None = "guidance_scale"
    guidance_floor: float = 1.0
    steps: str = "num_inference_steps"
    true_cfg: bool = False
    blank_negative: bool = False
    clip_only: bool = False
    chat_template: bool = False
    max_images: int = 0
    needs_image: bool = False
    max_adapter_images: int = 0


_CLIP = Family(size_multiple=8, clip_only=True, max_adapter_images=4)
_FLUX = Family(size_multiple=16, true_cfg=True, max_adapter_images=1)
_FLUX2 = Family(size_multiple=16, chat_template=True, max_images=4)
_QWEN = Family(size_multiple=16, guidance="true_cfg_scale", blank_negative=True)
_QWEN_EDIT = Family(size_multiple=16, guidance="true_cfg_scale", blank_negative=True, max_images=1, needs_image=True)
_Z_IMAGE = Family(size_multiple=16, guidance_floor=0.0, chat_template=True)
_TWO_STAGES = Family(size_multiple=128, guidance="prior_guidance_scale", steps="prior_num_inference_steps")

_FAMILIES: Mapping[str, Family] = {
    "AuraFlowPipeline": Family(size_multiple=16),
    "ChromaPipeline": Family(size_multiple=16),
    "CogView4Pipeline": Family(size_multiple=32),
    "Flux2KleinPipeline": _FLUX2,
    "Flux2Pipeline": _FLUX2,
    "FluxKontextPipeline": Family(size_multiple=16, true_cfg=True, max_images=1),
    "FluxPipeline": _FLUX,
    "HunyuanDiTPipeline": Family(size_multiple=16),
    "KolorsPipeline": Family(size_multiple=8, max_adapter_images=4),
    "LatentConsistencyModelPipeline": _CLIP,
    "Lumina2Pipeline": Family(size_multiple=16),
    "PixArtAlphaPipeline": Family(size_multiple=16),
    "PixArtSigmaPipeline": Family(size_multiple=16),
    "QwenImageEditPipeline": _QWEN_EDIT,
    "QwenImageEditPlusPipeline": Family(
        size_multiple=16, guidance="true_cfg_scale", blank_negative=True, max_images=3, needs_image=True
    ),
    "QwenImagePipeline": _QWEN,
    "SanaPipeline": Family(size_multiple=32),
    "SanaSprintPipeline": Family(size_multiple=32),
    "StableCascadeCombinedPipeline": _TWO_STAGES,
    "StableDiffusion3Pipeline": Family(size_multiple=16, max_adapter_images=1),
    "StableDiffusionInstructPix2PixPipeline": Family(size_multiple=8, max_images=1, needs_image=True),
    "StableDiffusionPipeline": _CLIP,
    "StableDiffusionXLInstructPix2PixPipeline": Family(size_multiple=8, max_images=1, needs_image=True),
    "StableDiffusionXLPipeline": _CLIP,
    "WuerstchenCombinedPipeline": _TWO_STAGES,
    "ZImagePipeline": _Z_IMAGE,
}

COMBINED: Mapping[str, str] = {
    "KandinskyPipeline": "KandinskyCombinedPipeline",
    "KandinskyV22Pipeline": "KandinskyV22CombinedPipeline",
    "StableCascadeDecoderPipeline": "StableCascadeCombinedPipeline",
    "WuerstchenDecoderPipeline": "WuerstchenCombinedPipeline",
}
"""Second stages that cannot draw alone, each with the pipeline that joins it to its first stage."""

_OPTIONS = (
    "clean_caption",
    "clip_skip",
    "complex_human_instruction",
    "decoder_guidance_scale",
    "eta",
    "guidance_rescale",
    "image_guidance_scale",
    "max_sequence_length",
    "true_cfg_scale",
    "use_resolution_binning",
)


@dataclass(frozen=True, slots=True)
class PipelineTraits:
    """What a pipeline class can do.

    Attributes:
        class_name: The class.
        family: What its signature does not say.
        classes: The pipeline class of each task that it can do, all sharing the same weights.
        parameters: What a call takes, by the task, each with its default.
    """

    class_name: str
    family: Family
    classes: Mapping[ImageTask, type[Any]]
    parameters: Mapping[ImageTask, Mapping[str, Any]]

    @property
    def options(self) -> frozenset[str]:
        """Names that `ImageRequest.options` may have, on some task at least."""
        taken = {name for parameters in self.parameters.values() for name in parameters}
        names = taken.intersection(_OPTIONS) - {self.family.guidance}
        if self.two_stages:
            names.add("decoder_num_inference_steps")
        else:
            names.add("scheduler")
        return frozenset(names)

    @property
    def two_stages(self) -> bool:
        """Whether a first pipeline draws what a second one decodes, each in steps of its own."""
        return self.family.steps == "prior_num_inference_steps"

    def capabilities(
        self, *, guided: bool = True, ip_adapter: bool = False, max_batch_size: int | None = None
    ) -> Capabilities:
        """Say what a generator over this pipeline honours.

        Args:
            guided: Whether these weights read guidance at all; some that were distilled do not.
            ip_adapter: Whether an IP-Adapter is put on.
            max_batch_size: Pictures to draw at once.
        """
        parameters = {name for taken in self.parameters.values() for name in taken}
        steps = bool(parameters & {"callback", "callback_on_step_end"})
        family = self.family
        return Capabilities(
            tasks=frozenset(self.classes),
            negative_prompt="negative_prompt" in parameters,
            seed=True,
            num_inference_steps=family.steps in parameters,
            guidance_scale=guided and family.guidance in parameters,
            strength="strength" in parameters,
            max_references=family.max_adapter_images if ip_adapter else family.max_images,
            size_multiple=family.size_multiple,
            min_size=max(16, family.size_multiple),
            max_batch_size=max_batch_size,
            progress=steps,
            cancel=steps,
            options=self.options | ({"ip_adapter_scale"} if ip_adapter else set()),
        )


def describe_class(class_name: str) -> PipelineTraits:
    """Say what a pipeline class of diffusers can do, from its name.

    Raises:
        GeneratorUnavailableError: If diffusers has no such class, or it draws no pictures from prompts.
    """
    import diffusers

    with quiet_diffusers(), warnings.catch_warnings(action="ignore"):  # of torchao and torch.jit, about themselves
        from diffusers.pipelines import auto_pipeline

    maps: Any = auto_pipeline  # typed by every key that it has
    # The maps of the auto classes name, by the same key, the pipelines of each task that share their weights.
    drawing: Mapping[str, type[Any]] = maps.AUTO_TEXT2IMAGE_PIPELINES_MAPPING
    others: Mapping[ImageTask, Mapping[str, type[Any]]] = {
        "image_to_image": maps.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
        "inpaint": maps.AUTO_INPAINT_PIPELINES_MAPPING,
    }
    class_name = COMBINED.get(class_name, class_name)
    names = {cls.__name__: key for table in (*others.values(), drawing) for key, cls in table.items()}
    key = names.get(class_name, "")
    family = _FAMILIES.get(class_name)
    cls: Any = getattr(diffusers, class_name, None)
    if cls is None or not (key or family):
        raise GeneratorUnavailableError(
            f"{class_name!r} is no pipeline of diffusers {diffusers.__version__} that draws a picture from a prompt. "
            + _CHOOSE_ANOTHER
        )
    if family is None:
        # What was saved as a pipeline of another task than drawing has the ways of its family all the same.
        base = drawing.get(key)
        family = _FAMILIES.get(base.__name__ if base else "", Family())
    classes: dict[ImageTask, type[Any]] = {task: cls for task in _own_tasks(cls, family)}
    if not classes:
        raise GeneratorUnavailableError(
            f"{class_name!r} draws only with pictures of a kind that no request has, such as the edges for a "
            "ControlNet. " + _CHOOSE_ANOTHER
        )
    if "text_to_image" in classes or "edit" in classes:
        for task, table in others.items():
            other = table.get(key)
            if other is not None and "strength" in inspect.signature(other.__call__).parameters:
                classes.setdefault(task, other)
    return PipelineTraits(
        class_name=class_name,
        family=family,
        classes=classes,
        parameters={task: _read_parameters(other) for task, other in classes.items()},
    )


def _read_parameters(cls: type[Any]) -> dict[str, Any]:
    """Parameters of a pipeline's call, each with its default, or None where it has none."""
    return {
        name: None if parameter.default is inspect.Parameter.empty else parameter.default
        for name, parameter in inspect.signature(cls.__call__).parameters.items()
    }


def _own_tasks(cls: type[Any], family: Family) -> tuple[ImageTask, ...]:
    """Tasks that a pipeline class does itself."""
    parameters = inspect.signature(cls.__call__).parameters
    if family.max_images:
        return ("edit",) if family.needs_image else ("text_to_image", "edit")
    if "mask_image" in parameters:
        return ("inpaint",)
    if "image" in parameters:
        return ("image_to_image",) if "strength" in parameters else ()
    return ("text_to_image",) if "control_image" not in parameters else ()


@dataclass(frozen=True, slots=True)
class Preset:
    """A model by its short name.

    Attributes:
        model: Id on the Hugging Face hub.
        class_name: Its pipeline class, known without asking the hub.
        num_inference_steps: Steps that its authors advise, where they are not the pipeline's own.
        guidance_scale: Guidance that they advise.
        guided: Whether these weights read guidance at all.
        options: Options of each request, where they are not the pipeline's own.
    """

    model: str
    class_name: str
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guided: bool = True
    options: Mapping[str, JsonValue] = field(default_factory=dict)


PRESETS: Mapping[str, Preset] = {
    "flux-dev": Preset("black-forest-labs/FLUX.1-dev", "FluxPipeline", 28, 3.5),
    "flux-kontext": Preset("black-forest-labs/FLUX.1-Kontext-dev", "FluxKontextPipeline", 28, 2.5),
    "flux-schnell": Preset(
        "black-forest-labs/FLUX.1-schnell", "FluxPipeline", 4, 0.0, guided=False, options={"max_sequence_length": 256}
    ),
    "flux2-dev": Preset("black-forest-labs/FLUX.2-dev", "Flux2Pipeline", 50, 4.0),
    "flux2-klein": Preset("black-forest-labs/FLUX.2-klein-4B", "Flux2KleinPipeline", 4, 1.0, guided=False),
    "pixart-alpha": Preset("PixArt-alpha/PixArt-XL-2-1024-MS", "PixArtAlphaPipeline"),
    "pixart-sigma": Preset("PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", "PixArtSigmaPipeline"),
    "qwen-image": Preset("Qwen/Qwen-Image", "QwenImagePipeline", 50, 4.0),
    "qwen-image-edit": Preset("Qwen/Qwen-Image-Edit", "QwenImageEditPipeline", 50, 4.0),
    "qwen-image-edit-plus": Preset("Qwen/Qwen-Image-Edit-2509", "QwenImageEditPlusPipeline", 40, 4.0),
    "sana": Preset("Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers", "SanaPipeline"),
    "sana-sprint": Preset("Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers", "SanaSprintPipeline"),
    "sd1.5": Preset("stable-diffusion-v1-5/stable-diffusion-v1-5", "StableDiffusionPipeline"),
    "sd3.5-large": Preset("stabilityai/stable-diffusion-3.5-large", "StableDiffusion3Pipeline", 28, 3.5),
    "sd3.5-medium": Preset("stabilityai/stable-diffusion-3.5-medium", "StableDiffusion3Pipeline", 40, 4.5),
    "sdxl": Preset("stabilityai/stable-diffusion-xl-base-1.0", "StableDiffusionXLPipeline"),
    "sdxl-turbo": Preset("stabilityai/sdxl-turbo", "StableDiffusionXLPipeline", 1, 0.0),
    "stable-cascade": Preset("stabilityai/stable-cascade", "StableCascadeCombinedPipeline", 20, 4.0),
    "wuerstchen": Preset("warp-ai/wuerstchen", "WuerstchenCombinedPipeline"),
    "z-image-turbo": Preset("Tongyi-MAI/Z-Image-Turbo", "ZImagePipeline", 9, 0.0),
}
"""The usual models, by short name. Steps and guidance are those of the models' own cards."""

_CHOOSE_ANOTHER = "Choose another model; short names: " + ", ".join(sorted(PRESETS)) + "."
