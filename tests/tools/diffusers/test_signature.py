"""Every pipeline class that the installed diffusers exports is described by its signature, or refused with a reason."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.errors import GeneratorUnavailableError
from mgem_agent.tools.diffusers import signature
from mgem_agent.tools.diffusers.families import COMBINED, describe_class

DRAWS = {"text_to_image"}
EDITS = {"text_to_image", "edit"}
# tasks, and the parameter that guidance goes to
NAMED: dict[str, tuple[set[str], str | None]] = {
    "BriaFibo2Pipeline": (EDITS, "guidance_scale"),
    "BriaFiboEditPipeline": ({"edit"}, "guidance_scale"),
    "BriaFiboPipeline": (DRAWS, "guidance_scale"),
    "BriaPipeline": (DRAWS, "guidance_scale"),
    "ChromaImg2ImgPipeline": ({"image_to_image"}, "guidance_scale"),
    "ChromaInpaintPipeline": ({"inpaint"}, "guidance_scale"),
    "DreamLiteMobilePipeline": (EDITS, None),
    "DreamLitePipeline": (EDITS, "guidance_scale"),
    "ErnieImagePipeline": (DRAWS, "guidance_scale"),
    "Flux2KleinInpaintPipeline": ({"inpaint"}, "guidance_scale"),
    "Flux2KleinKVPipeline": (EDITS, None),
    "FluxFillPipeline": ({"inpaint"}, "guidance_scale"),
    "FluxKontextInpaintPipeline": ({"inpaint"}, "guidance_scale"),
    "GlmImagePipeline": (DRAWS, "guidance_scale"),
    "HiDreamImagePipeline": (DRAWS, "guidance_scale"),
    "HunyuanImagePipeline": (DRAWS, "distilled_guidance_scale"),
    "JoyImageEditPipeline": (EDITS, "guidance_scale"),
    "JoyImageEditPlusPipeline": (EDITS, "guidance_scale"),
    "Kandinsky5I2IPipeline": ({"edit"}, "guidance_scale"),
    "Kandinsky5T2IPipeline": (DRAWS, "guidance_scale"),
    "LongCatImageEditPipeline": ({"edit"}, "guidance_scale"),
    "LongCatImagePipeline": (DRAWS, "guidance_scale"),
    "OmniGenPipeline": (EDITS, "guidance_scale"),
    "QwenImage21Pipeline": (EDITS, "true_cfg_scale"),
    "ZImageOmniPipeline": (EDITS, "guidance_scale"),
}
REFUSED = {
    "Cosmos2TextToImagePipeline": (
        "needs packages that are not all installed: cosmos_guardrail (pip install cosmos_guardrail)"
    ),
    "DDPMPipeline": "takes no prompt",
    "DiffusionPipeline": "has no call of its own; it is a base for others",
    "FluxControlPipeline": "needs a control picture as control_image, such as edges or depth, which no request carries",
    "FluxPriorReduxPipeline": "makes embeddings for a second pipeline instead of a picture",
    "IFSuperResolutionPipeline": "enlarges a picture that another pipeline drew",
    "KandinskyV22Img2ImgPipeline": "takes no prompt and needs image_embeds, negative_image_embeds",
    "MarigoldDepthPipeline": "makes maps of depth or surfaces instead of a picture",
    "NoSuchPipeline": "is not a class of this release",
    "QwenImageLayeredPipeline": "splits a picture into layers",
    "ShapEPipeline": "makes views of a 3D object instead of a picture",
    "StableAudioPipeline": "makes sound instead of a picture",
    "StableDiffusionControlNetPipeline": (
        "needs a control picture as image, such as edges or depth, which no request carries"
    ),
    "StableDiffusionImageVariationPipeline": "takes no prompt",
    "StableDiffusionPanoramaPipelineOutput": "is not a class of this release",
    "TextToVideoZeroPipeline": "makes video instead of a picture",
    "WanPipeline": "makes video instead of a picture",
    "ZImageModularPipeline": "is no DiffusionPipeline",
}
REASON = re.compile(r"'\w+' of diffusers [\d.]+ cannot draw a picture from a prompt: it (.+)\. Choose another model; ")


def pipeline_classes() -> Iterator[Any]:
    import diffusers

    for name in sorted(name for name in dir(diffusers) if "Pipeline" in name):
        cls = getattr(diffusers, name, None)
        if isinstance(cls, type) and issubclass(cls, diffusers.DiffusionPipeline) and inspect.isfunction(cls.__call__):
            yield cls


def reason_for(class_name: str) -> str:
    with pytest.raises(GeneratorUnavailableError) as caught:
        describe_class(class_name)
    found = REASON.match(str(caught.value))
    assert found, caught.value
    return found[1]


def is_true(reason: str, cls: Any) -> bool:
    """Whether a reason holds for a class, by its source and not by the rules that gave the reason."""
    parameters = inspect.signature(cls.__call__).parameters
    source = Path(inspect.getfile(cls)).read_text(encoding="utf-8").lower()
    if found := re.match(r"takes no prompt(?: and needs (.+))?$", reason):
        needed = found[1].split(", ") if found[1] else []
        return "prompt" not in parameters and all(
            parameters[name].default is inspect.Parameter.empty for name in needed
        )
    if found := re.match(r"needs a control picture as (\w+), ", reason):
        return found[1] in parameters and ("control" in source or "adapter" in source)
    if found := re.match(r"needs ([\w, ]+), which no request carries", reason):
        return all(name in parameters for name in re.findall(r"[a-z]\w*_\w+", found[1]))
    words = {
        "makes video": "video", "needs packages": "guardrail",
        "makes sound": "audio", "makes text": "token", "makes molecules": "protein",
        "makes embeddings": "prompt_embeds|image_embed", "makes maps": "prediction", "makes views": "frame_size",
        "makes a colour and a depth map": "depth", "needs latents": "image_latents", "enlarges": "upscale|resolution",
        "refines": "refiner", "splits": "layers", "runs on ONNX": "onnx", "needs a guidance_schedule": "schedule",
    }  # fmt: skip
    return any(reason.startswith(start) and re.search(word, source) for start, word in words.items())


def test_every_class_is_described_or_refused_with_a_true_reason() -> None:
    described, wrong = [], {}
    for cls in pipeline_classes():
        if cls.__name__ in COMBINED:
            continue
        try:
            traits = describe_class(cls.__name__)
        except GeneratorUnavailableError:
            reason = reason_for(cls.__name__)
            if not is_true(reason, cls):
                wrong[cls.__name__] = reason
            continue
        described.append(cls.__name__)
        for task, other in traits.classes.items():
            parameters = inspect.signature(other.__call__).parameters
            needed = {name for name, each in parameters.items() if each.default is each.empty} - {"self", "kwargs"}
            carried = {"text_to_image": {"prompt"}, "inpaint": {"prompt", "image", "mask_image"}}
            if not needed <= carried.get(task, {"prompt", "image"}) or not {"prompt", "generator"} <= parameters.keys():
                wrong[other.__name__] = task
            if task != "text_to_image" and not {"image", "images", "input_images"} & parameters.keys():
                wrong[other.__name__] = task
    assert wrong == {}
    assert set(NAMED) <= set(described)
    assert len(described) > 100


@pytest.mark.parametrize("class_name", NAMED)
def test_tasks_and_guidance_come_from_the_signature(class_name: str) -> None:
    traits = describe_class(class_name)
    assert (set(traits.classes), traits.family.guidance) == NAMED[class_name]
    able = traits.capabilities()
    assert (able.max_references > 0) == ("edit" in traits.classes)
    assert able.seed and able.num_inference_steps
    assert able.strength == any("strength" in parameters for parameters in traits.parameters.values())


@pytest.mark.parametrize("class_name", REFUSED)
def test_a_refusal_gives_the_true_reason(class_name: str) -> None:
    assert reason_for(class_name) == REFUSED[class_name]


def test_a_class_whose_edit_fails_with_the_installed_releases_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    able = describe_class("GlmImagePipeline").capabilities()
    assert re.match(r"With diffusers 0\.42\.\d and transformers 5\.\S+: diffusers joins .+", able.unsupported["edit"])
    monkeypatch.setattr(signature.importlib.metadata, "version", lambda name: "9.0")
    able = describe_class("GlmImagePipeline").capabilities()
    assert able.tasks == {"text_to_image", "edit"}
    assert able.unsupported == {}


@pytest.mark.parametrize("class_name", ["StableCascadeCombinedPipeline", "UniDiffuserPipeline"])
def test_a_class_that_only_draws_says_why(class_name: str) -> None:
    able = describe_class(class_name).capabilities()
    assert able.tasks == {"text_to_image"}
    assert able.unsupported["edit"].endswith(".")
