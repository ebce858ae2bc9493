"""The generator in the box: a real pipeline of its kind, tiny and with random weights."""

from __future__ import annotations

import re
import shutil
import string
import warnings
from pathlib import Path

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mgem_agent import MgemAgent
from mgem_agent.artifacts import ArtifactStore
from mgem_agent.errors import GeneratorUnavailableError, InputError
from mgem_agent.nano import drawing
from mgem_agent.nano.drawing import NanoGenerator
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import ScriptedReasoner
from mgem_agent.tools import make_generator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    with warnings.catch_warnings(action="ignore"):  # of one of its pipelines, about torch.jit
        from diffusers.pipelines import auto_pipeline
    assert auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING

    torch.manual_seed(0)
    letters = string.ascii_lowercase
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    text = CLIPTextConfig(
        vocab_size=54, bos_token_id=52, eos_token_id=53, pad_token_id=53, hidden_size=16, intermediate_size=16,
        num_hidden_layers=1, num_attention_heads=2,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, sample_size=8, norm_num_groups=4, cross_attention_dim=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), attention_head_dim=4,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1),
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text).eval(),
        tokenizer=CLIPTokenizer(vocab={piece: id_ for id_, piece in enumerate(pieces)}, merges=[], model_max_length=77),
        unet=unet.eval(),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    path = tmp_path_factory.mktemp("diffusion")
    pipeline.save_pretrained(path)
    (path / "nano.json").write_text('{"size_px": 64, "steps": 2, "guidance_scale": 1.5, "options": {"eta": 0.5}}')
    return path


def draw(generator: NanoGenerator, **fields: object) -> ImageResult:
    request = ImageRequest(prompt="a fox", seed=3, **fields)
    [result] = [event for event in generator.generate([request]) if isinstance(event, ImageResult)]
    return result


def test_it_draws_as_it_was_trained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NanoGenerator.__init__, "__kwdefaults__", {"folder": folder})
    generator = make_generator("nano")
    assert isinstance(generator, NanoGenerator)
    assert (generator.name, generator.capabilities.sizes, generator.capabilities.seed) == ("nano", ((64, 64),), True)
    result = draw(generator)
    assert result.image is not None and result.image.size == (64, 64)
    assert (result.generator, result.model, result.notices) == ("nano", "nano", ())
    assert (result.executed.num_inference_steps, result.executed.guidance_scale) == (2, 1.5)
    assert result.executed.options["eta"] == 0.5
    again = draw(make_generator("nano"))
    assert again.image is not None and again.image.tobytes() == result.image.tobytes()


def test_a_caller_may_choose_all_but_the_size(folder: Path) -> None:
    result = draw(NanoGenerator(folder=folder), width=512, height=512, num_inference_steps=1)
    assert result.image is not None and result.image.size == (64, 64)
    assert result.executed.num_inference_steps == 1
    assert [notice.argument for notice in result.notices] == ["width", "height"]
    options = drawing.DiffusersOptions(num_inference_steps=3)
    assert draw(NanoGenerator(options, folder=folder)).executed.num_inference_steps == 3


def test_what_has_no_effect_is_left_out_with_a_notice(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "weights")
    (tmp_path / "weights" / "nano.json").write_text(
        '{"size_px": 64, "steps": 2, "without_effect": ["seed", "num_inference_steps", "guidance_scale"]}'
    )
    generator = NanoGenerator(folder=tmp_path / "weights")
    first, second = draw(generator, num_inference_steps=1, guidance_scale=7.0), draw(generator)
    assert [notice.argument for notice in first.notices] == ["seed", "num_inference_steps", "guidance_scale"]
    assert first.image is not None and second.image is not None and first.image.tobytes() == second.image.tobytes()
    assert (first.executed.seed, first.executed.num_inference_steps, first.executed.guidance_scale) == (None,) * 3


def test_the_weights_in_the_box_vary_and_inpaint() -> None:
    able = make_generator("nano").capabilities
    assert (able.seed, able.num_inference_steps, able.guidance_scale) == (True, True, True)
    assert able.tasks == {"text_to_image", "image_to_image", "inpaint"}


def test_weights_that_are_not_there_are_missed_when_it_is_to_draw(tmp_path: Path) -> None:
    generator = NanoGenerator(folder=tmp_path / "diffusion")
    missing = (
        r"^The weights of the generator 'nano' are not in this installation: there is no '.*diffusion'\. Install "
        r"a release of mgem-agent that has them, or draw with another: mgem generators$"
    )
    with pytest.raises(GeneratorUnavailableError, match=missing):
        assert generator.capabilities
    store, reasoner = ArtifactStore(tmp_path), ScriptedReasoner(script=["Hello.", "Here: <h>a fox</h>"])
    agent = MgemAgent(reasoner, generator, store=store, sessions=Sessions.in_memory())
    assert agent.invoke("Hello.").text == "Hello."
    [failure] = agent.invoke("Draw me a fox.").failures
    assert re.match(missing, failure.message)


def test_weights_that_do_not_say_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "nano.json").write_text('{"size": 3}')
    with pytest.raises(GeneratorUnavailableError, match=r"nano\.json' does not say what the weights were trained for"):
        NanoGenerator(folder=tmp_path)


def test_the_name_is_the_whole_name() -> None:
    with pytest.raises(
        InputError, match=r"^.nano:big. has a part too many: there is one such generator\. Write .nano.\.$"
    ):
        make_generator("nano:big")


def test_damaged_weights_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "explain_damage", lambda place, cache: f"Damaged: {place}.")
    with pytest.raises(GeneratorUnavailableError, match=r"^The generator 'nano' cannot be loaded\. Damaged: /.*\.$"):
        draw(NanoGenerator(folder=folder))
