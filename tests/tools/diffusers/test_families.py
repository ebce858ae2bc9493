import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mgem_agent.errors import GeneratorUnavailableError
from mgem_agent.tools.diffusers.families import COMBINED, PRESETS, describe_class
from mgem_agent.tools.diffusers.generator import DiffusersGenerator
from mgem_agent.tools.image_result import GenerationProgress

FAMILIES = ("cascade", "flux", "klein", "kontext", "pixart", "sana", "schnell", "sd", "sd3", "sdxl", "wuerstchen")
STARTING = {"text_to_image", "image_to_image", "inpaint"}
# tasks, negative_prompt, guidance_scale, strength, max_references, size_multiple
ABLE: dict[str, tuple[set[str], bool, bool, bool, int, int]] = {
    "cascade": ({"text_to_image"}, True, True, False, 0, 128),
    "flux": (STARTING, True, True, True, 0, 16),
    "klein": ({"text_to_image", "edit"}, False, True, False, 4, 16),
    "kontext": ({"text_to_image", "edit"}, True, True, False, 1, 16),
    "pixart": ({"text_to_image"}, True, True, False, 0, 16),
    "sana": ({"text_to_image"}, True, True, False, 0, 32),
    "schnell": (STARTING, True, False, True, 0, 16),
    "sd": (STARTING, True, True, True, 0, 8),
    "sd3": (STARTING, True, True, True, 0, 16),
    "sdxl": (STARTING, True, True, True, 0, 8),
    "wuerstchen": ({"text_to_image"}, True, True, False, 0, 128),
}


def difference(first: Any, second: Any) -> int:
    return int(np.abs(np.asarray(first, dtype=int) - np.asarray(second, dtype=int)).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_what_each_family_can_do_is_known_without_its_weights(make_generator: Any, family: str) -> None:
    generator = make_generator(family, fresh=True)
    able = generator.capabilities
    assert not generator.loaded
    assert ABLE[family] == (
        able.tasks, able.negative_prompt, able.guidance_scale, able.strength, able.max_references, able.size_multiple
    )  # fmt: skip
    assert able.seed and able.num_inference_steps and able.progress and able.cancel


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_is_the_same_alone_and_in_a_batch(make_generator: Any, draw: Any, ask: Any, family: str) -> None:
    generator = make_generator(family)
    together = draw(generator, [ask(family, seed=seed, prompt=f"a fox, {'red ' * seed}") for seed in (1, 2, 3)])
    (alone,) = draw(generator, [ask(family, seed=2, prompt="a fox, red red")])
    assert [result.error for result in together] == [None] * 3
    assert difference(together[1].image, alone.image) <= 1
    assert difference(together[1].image, together[0].image) > 1
    assert together[1].notices == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_are_told_and_counted_to_their_end(make_generator: Any, ask: Any, family: str) -> None:
    events = list(make_generator(family).generate([ask(family)]))
    steps = [(event.step, event.num_steps) for event in events if isinstance(event, GenerationProgress)]
    last = 3 if family in ("cascade", "wuerstchen") else 2  # these decode in a step of their own
    assert steps == [(step, last) for step in range(1, last + 1)]


@pytest.mark.parametrize("family", FAMILIES)
def test_arguments_change_the_picture_or_are_reported(make_generator: Any, draw: Any, ask: Any, family: str) -> None:
    generator = make_generator(family)
    (plain,) = draw(generator, [ask(family)])
    changes = {
        "prompt": "seven blue boats at sea",
        "negative_prompt": "boats",
        "guidance_scale": 9.0,
        "num_inference_steps": 3,
        "seed": 8,
    }
    results = draw(generator, [ask(family, **{name: value}) for name, value in changes.items()])
    for (name, value), result in zip(changes.items(), results, strict=True):
        assert result.error is None
        if any(notice.argument == name for notice in result.notices):
            assert getattr(result.executed, name) != value
            assert difference(result.image, plain.image) <= 1
        else:
            assert getattr(result.executed, name) == value
            assert result.image.tobytes() != plain.image.tobytes(), name


def test_flux_reads_a_negative_prompt_with_true_cfg_alone(make_generator: Any, draw: Any, ask: Any) -> None:
    generator = make_generator("flux")
    unread, read = draw(
        generator,
        [ask("flux", negative_prompt="boats"), ask("flux", negative_prompt="boats", options={"true_cfg_scale": 4.0})],
    )
    assert unread.executed.negative_prompt is None
    assert [notice.message for notice in unread.notices] == [
        "this model uses a negative prompt only with options.true_cfg_scale above 1 (twice the time); it was left out."
    ]
    assert read.executed.negative_prompt == "boats"
    assert read.notices == ()
    assert read.image.tobytes() != unread.image.tobytes()


def test_klein_that_was_distilled_has_no_guidance(tiny_pipeline: Any, tmp_path: Path) -> None:
    index = json.loads((tiny_pipeline("klein") / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps({**index, "is_distilled": True}))
    assert not DiffusersGenerator.from_name(str(tmp_path)).capabilities.guidance_scale


def test_another_scheduler_may_be_asked_for(make_generator: Any, draw: Any, ask: Any) -> None:
    generator = make_generator("sdxl")
    own, other, wrong = draw(
        generator,
        [ask(), ask(options={"scheduler": "DPMSolverMultistepScheduler"}), ask(options={"scheduler": "FastScheduler"})],
    )
    assert other.executed.options["scheduler"] == "DPMSolverMultistepScheduler"
    assert other.image.tobytes() != own.image.tobytes()
    assert isinstance(wrong.error, GeneratorUnavailableError)
    assert "Scheduler 'FastScheduler' is not compatible with this pipeline. Compatible schedulers: " in str(wrong.error)
    (again,) = draw(generator, [ask()])
    assert again.image.tobytes() == own.image.tobytes()


def test_short_names_name_pipelines_that_there_are() -> None:
    for name, preset in PRESETS.items():
        traits = describe_class(preset.class_name)
        taken = {parameter for parameters in traits.parameters.values() for parameter in parameters}
        assert preset.model.count("/") == 1
        assert preset.options.keys() <= traits.options, name
        assert traits.family.steps in taken, name
        assert traits.family.guidance in taken, name


def test_a_short_name_and_its_hub_id_are_one_model() -> None:
    short, full = DiffusersGenerator("flux-schnell"), DiffusersGenerator("black-forest-labs/FLUX.1-schnell")
    assert short.model == full.model
    assert short.capabilities == full.capabilities
    assert not short.capabilities.guidance_scale


def test_a_second_stage_stands_for_the_pipeline_that_joins_both() -> None:
    for decoder, combined in COMBINED.items():
        assert describe_class(decoder).class_name == combined


@pytest.mark.parametrize(
    ("class_name", "tasks"),
    [
        ("StableDiffusionXLImg2ImgPipeline", {"image_to_image"}),
        ("StableDiffusionInpaintPipeline", {"inpaint"}),
        ("StableDiffusionInstructPix2PixPipeline", {"edit"}),
        ("QwenImagePipeline", STARTING),
        ("QwenImageEditPipeline", {"edit", "inpaint"}),
        ("QwenImageEditPlusPipeline", {"edit"}),
        ("ZImagePipeline", STARTING),
        ("Flux2Pipeline", {"text_to_image", "edit"}),
        ("AuraFlowPipeline", {"text_to_image"}),
    ],
)
def test_the_tasks_of_a_class(class_name: str, tasks: set[str]) -> None:
    traits = describe_class(class_name)
    assert traits.classes.keys() == tasks
    for task, cls in traits.classes.items():
        parameters = inspect.signature(cls.__call__).parameters
        assert ("mask_image" in parameters) == (task == "inpaint")
        assert task not in ("image_to_image", "inpaint") or "strength" in parameters
