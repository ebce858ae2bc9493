"""What each pipeline class of diffusers can do, and the short names of the usual models.

Tasks and parameters are read from the signature of the class, so any class that draws a picture from a prompt works.
The table adds what no signature says: up to which guidance a negative prompt is not read, how many pictures an edit
model takes, and which multiple of pixels sizes must be. Nothing here loads weights, and only :func:`describe_class`
imports diffusers.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import JsonValue

from mgem_agent.deferred_imports import deferred_imports
from mgem_agent.deferred_object import load_deferred
from mgem_agent.errors import GeneratorUnavailableError
from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.tools.diffusers.logging import quiet_diffusers
from mgem_agent.tools.diffusers.previews import can_preview
from mgem_agent.tools.diffusers.signature import (
    explain_no_edit,
    explain_refusal,
    find_guidance,
    find_picture,
    read_parameters,
    read_tasks,
    takes_lists,
)
from mgem_agent.tools.image_request import ImageTask

__all__ = ["COMBINED", "PRESETS", "PipelineTraits", "describe_class"]


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
        max_images: Pictures that a model takes as `image` if it edits.
        default_size: Width and height of a picture whose size is not given, in pixels, where the pipeline needs one.
        max_adapter_images: Pictures that an IP-Adapter on this pipeline takes; 0 where there are no such adapters.
        cache_threshold: Threshold of the first-block cache for these models; None for that of diffusers.
    """

    size_multiple: int = 32
    guidance: str | None = "guidance_scale"
    guidance_floor: float = 1.0
    steps: str = "num_inference_steps"
    true_cfg: bool = False
    blank_negative: bool = False
    clip_only: bool = False
    chat_template: bool = False
    max_images: int = 1
    default_size: int | None = None
    max_adapter_images: int = 0
    cache_threshold: float | None = None


_CLIP = Family(size_multiple=8, clip_only=True, max_adapter_images=4)
_FLUX = Family(size_multiple=16, true_cfg=True, max_adapter_images=1, cache_threshold=0.08)
_FLUX2 = Family(size_multiple=16, chat_template=True, max_images=4)
_QWEN = Family(size_multiple=16, guidance="true_cfg_scale", blank_negative=True)
_Z_IMAGE = Family(size_multiple=16, guidance_floor=0.0, chat_template=True)
_TWO_STAGES = Family(size_multiple=128, guidance="prior_guidance_scale", steps="prior_num_inference_steps")

_FAMILIES: Mapping[str, Family] = {
    "AuraFlowPipeline": Family(size_multiple=16),
    "BriaFibo2Pipeline": Family(size_multiple=32, max_images=4),
    "BriaFiboEditPipeline": Family(size_multiple=32, max_images=4),
    "ChromaPipeline": Family(size_multiple=16),
    "CogView4Pipeline": Family(size_multiple=32),
    "Flux2KleinKVPipeline": replace(_FLUX2, guidance=None),
    "Flux2KleinPipeline": _FLUX2,
    "Flux2Pipeline": _FLUX2,
    "FluxKontextPipeline": Family(size_multiple=16, true_cfg=True, cache_threshold=0.08),
    "FluxPipeline": _FLUX,
    "GlmImagePipeline": Family(size_multiple=32, default_size=1024),
    "HunyuanDiTPipeline": Family(size_multiple=16),
    "KolorsPipeline": Family(size_multiple=8, max_adapter_images=4),
    "LatentConsistencyModelPipeline": _CLIP,
    "Lumina2Pipeline": Family(size_multiple=16),
    "PixArtAlphaPipeline": Family(size_multiple=16),
    "PixArtSigmaPipeline": Family(size_multiple=16),
    "QwenImage21Pipeline": replace(_QWEN, size_multiple=32, max_images=4),
    "QwenImageEditPipeline": _QWEN,
    "QwenImageEditPlusPipeline": Family(size_multiple=16, guidance="true_cfg_scale", blank_negative=True, max_images=3),
    "QwenImagePipeline": _QWEN,
    "SanaPipeline": Family(size_multiple=32),
    "SanaSprintPipeline": Family(size_multiple=32),
    "StableCascadeCombinedPipeline": _TWO_STAGES,
    "StableDiffusion3Pipeline": Family(size_multiple=16, max_adapter_images=1),
    "StableDiffusionInstructPix2PixPipeline": Family(size_multiple=8),
    "StableDiffusionPipeline": _CLIP,
    "StableDiffusionXLInstructPix2PixPipeline": Family(size_multiple=8),
    "StableDiffusionXLPipeline": _CLIP,
    "WuerstchenCombinedPipeline": _TWO_STAGES,
    "ZImageOmniPipeline": replace(_Z_IMAGE, max_images=4),
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
    "enable_prompt_rewrite",
    "eta",
    "guidance_rescale",
    "image_guidance_scale",
    "img_guidance_scale",
    "max_sequence_length",
    "true_cfg_scale",
    "use_pe",
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
        schedulers: Whether it has a scheduler that a request can replace.
        batches: Whether a call takes several prompts.
        unsupported: Tasks that its signature suggests and that it cannot do, each with the reason.
    """

    class_name: str
    family: Family
    classes: Mapping[ImageTask, type[Any]]
    parameters: Mapping[ImageTask, Mapping[str, Any]]
    schedulers: bool = True
    batches: bool = True
    unsupported: Mapping[ImageTask, str] = field(default_factory=dict)

    @property
    def options(self) -> frozenset[str]:
        """Names that `ImageRequest.options` may have, on some task at least."""
        taken = {name for parameters in self.parameters.values() for name in parameters}
        names = taken.intersection(_OPTIONS) - {self.family.guidance}
        if self.two_stages:
            names.add("decoder_num_inference_steps")
        elif self.schedulers:
            names.add("scheduler")
        return frozenset(names)

    @property
    def two_stages(self) -> bool:
        """Whether a first pipeline draws what a second one decodes, each in steps of its own."""
        return self.family.steps == "prior_num_inference_steps"

    @property
    def picture(self) -> str | None:
        """Parameter for the picture to edit and for references; None where it takes neither."""
        parameters = self.parameters.get("edit")
        return None if parameters is None else find_picture(parameters)

    @property
    def needs_size(self) -> bool:
        """Whether an edit is told its size: some pipelines need one, some draw in a size of their own without."""
        return self.family.default_size is not None or self.picture not in ("image", None)

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
            unsupported=dict(self.unsupported),
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
            previews=steps and not self.two_stages and all(map(can_preview, self.classes.values())),
            options=self.options | ({"ip_adapter_scale"} if ip_adapter else set()),
        )


def describe_class(class_name: str) -> PipelineTraits:
    """Say what a pipeline class of diffusers can do, from its name.

    Raises:
        GeneratorUnavailableError: If diffusers has no such class, or it draws no pictures from prompts.
    """
    with deferred_imports():
        return _describe_class(class_name)


def _describe_class(class_name: str) -> PipelineTraits:
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
    cls: Any = getattr(diffusers, class_name, None)
    if reason := _explain_class(cls):
        raise GeneratorUnavailableError(
            f"{class_name!r} of diffusers {diffusers.__version__} cannot draw a picture from a prompt: it {reason}. "
            + _CHOOSE_ANOTHER
        )
    names = {each.__name__: key for table in (*others.values(), drawing) for key, each in table.items()}
    key = names.get(class_name, "")
    classes: dict[ImageTask, type[Any]] = {task: cls for task in read_tasks(cls)}
    family = _find_family(cls, drawing.get(key), edits="edit" in classes)
    if "text_to_image" in classes or "edit" in classes:
        for task, table in others.items():
            other = load_deferred(table.get(key))
            if other is not None and "strength" in inspect.signature(other.__call__).parameters:
                classes.setdefault(task, other)
    return PipelineTraits(
        class_name=class_name,
        family=family,
        classes=classes,
        parameters={task: read_parameters(other) for task, other in classes.items()},
        schedulers="scheduler" in inspect.signature(cls.__init__).parameters,
        batches=takes_lists(cls),
        unsupported={"edit": reason} if (reason := explain_no_edit(cls)) else {},
    )


def _explain_class(cls: Any) -> str | None:
    """Say why a class of diffusers cannot be used, as the end of a sentence; None if it can."""
    from diffusers import DiffusionPipeline

    if cls is None:
        return "is not a class of this release"
    if missing := getattr(cls, "_backends", None):
        return f"needs packages that are not all installed: {', '.join(missing)}"
    if not (isinstance(cls, type) and issubclass(cls, DiffusionPipeline)):
        return "is no DiffusionPipeline"
    return explain_refusal(cls)


def _find_family(cls: type[Any], base: type[Any] | None, *, edits: bool) -> Family:
    """What a signature does not say: from the line of the class in the table, or of the class with the same weights.

    A class without a line gets what its signature suggests.
    """
    family = _FAMILIES.get(cls.__name__) or _FAMILIES.get(base.__name__ if base else "")
    if family is None:
        parameters = read_parameters(cls)
        guidance = find_guidance(parameters)
        family = Family(
            guidance=guidance,
            true_cfg="true_cfg_scale" in parameters and guidance == "guidance_scale",
            blank_negative=guidance == "true_cfg_scale",
            max_images=1 if find_picture(parameters) in ("image", None) else 4,
        )
    return family if edits else replace(family, max_images=0)


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
