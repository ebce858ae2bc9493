import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mgem_agent.errors import GeneratorUnavailableError
from mgem_agent.tools.diffusers.generator import DiffusersGenerator
from mgem_agent.tools.image_request import ImageRequest

REQUEST = ImageRequest(prompt="a red fox", width=32, height=32, seed=1, num_inference_steps=1)


def reason(name: str, **options: object) -> str:
    """Why a generator cannot draw, which it says before it yields anything."""
    with pytest.raises(GeneratorUnavailableError) as caught:
        next(DiffusersGenerator.from_name(name, **options).generate([REQUEST]))
    return str(caught.value)


@pytest.mark.parametrize("name", ["./models/none", "/no/such/folder", "~/none", "a/b/c", "nothing"])
def test_a_folder_that_is_not_there(name: str) -> None:
    assert reason(name) == (
        f"There is no folder {name!r}. Give a folder with a model_index.json, a hub id such as "
        "'stabilityai/sdxl-turbo', or a short name such as 'sdxl'."
    )


def test_an_id_that_is_not_on_this_machine() -> None:
    assert reason("nobody/nothing", local_files_only=True) == (
        "The model 'nobody/nothing' cannot be loaded: it is not on this machine and the hub cannot be reached. "
        "With a network, run: hf download nobody/nothing."
    )


def test_a_short_name_that_is_not_on_this_machine() -> None:
    generator = DiffusersGenerator.from_name("sdxl", local_files_only=True)
    assert generator.capabilities.negative_prompt
    with pytest.raises(GeneratorUnavailableError, match="run: hf download stabilityai/stable-diffusion-xl-base-1.0"):
        next(generator.generate([REQUEST]))


def test_an_id_that_is_none() -> None:
    assert "the hub has no such model. Look for its id at https://huggingface.co/models" in reason("no body/no thing")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("GatedRepoError", "open https://huggingface.co/some/model, then run: hf auth login"),
        ("RepositoryNotFoundError", "the hub has no such model."),
        ("RevisionNotFoundError", "not this revision. Leave out the option revision"),
        ("RemoteEntryNotFoundError", "choose one that has a model_index.json"),
        ("HfHubHTTPError", "HfHubHTTPError: 503 of the hub. Run: hf download some/model"),
    ],
)
def test_what_the_hub_says_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch, error: str, words: str) -> None:
    import httpx
    import huggingface_hub
    from huggingface_hub import errors

    response = httpx.Response(503, request=httpx.Request("GET", "https://huggingface.co"))

    def refuse(*arguments: object, **settings: object) -> None:
        raise getattr(errors, error)("503 of the hub", response=response)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    assert words in reason("some/model")


@pytest.fixture
def folder(tiny_pipeline: Any, tmp_path: Path) -> Path:
    """A copy of a tiny pipeline, to be broken."""
    return Path(shutil.copytree(tiny_pipeline("sdxl"), tmp_path / "model"))


def test_a_folder_without_an_index(folder: Path) -> None:
    (folder / "model_index.json").unlink()
    assert reason(str(folder)) == (
        f"The folder {str(folder)!r} has no model_index.json: it is not a complete diffusers pipeline. "
        f"Run: hf download ID --local-dir {folder}, with the model's hub ID"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "is not a JSON object"),
        ("{}", "names no pipeline class"),
        ("\xff", "is no JSON"),
    ],
)
def test_an_index_that_is_none(folder: Path, content: str, words: str) -> None:
    (folder / "model_index.json").write_bytes(content.encode("latin-1"))
    message = reason(str(folder))
    assert words in message or "cannot be read" in message
    assert f"Run: hf download ID --local-dir {folder}" in message


@pytest.mark.parametrize(
    "lost",
    [
        "unet/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "scheduler",
        "tokenizer",
        "vae/config.json",
    ],
)
def test_a_download_that_is_not_all_there(folder: Path, lost: str) -> None:
    path = folder / lost
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    message = reason(str(folder))
    assert message.startswith(f"The model {str(folder)!r} cannot be loaded: ")
    assert f"Run: hf download ID --local-dir {folder}" in message


def test_weights_that_are_cut_short(folder: Path) -> None:
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "Run: hf download ID" in reason(str(folder))


def test_a_pipeline_that_draws_no_pictures(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "WanPipeline"}))
    assert "cannot draw a picture from a prompt: it makes video instead of a picture." in reason(str(folder))


def test_a_package_that_the_pipeline_needs_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    def fail(*arguments: object, **settings: object) -> None:
        raise ImportError("`cosmos_guardrail` is not installed.")

    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", fail)
    assert "cannot be loaded: ImportError: `cosmos_guardrail` is not installed." in reason(str(folder))


def test_weights_that_are_gone_after_unload(make_generator: Any, draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise PermissionError("no more")

    generator = make_generator("sdxl", fresh=True)
    assert draw(generator, [REQUEST])[0].image is not None
    monkeypatch.setattr("mgem_agent.tools.diffusers.generator.load_pipeline", fail)
    assert draw(generator, [REQUEST])[0].image is not None
    generator.unload()
    with pytest.raises(GeneratorUnavailableError, match="The pipeline cannot be loaded: PermissionError: no more"):
        next(generator.generate([REQUEST]))


def test_a_scheduler_with_settings_is_put_in_its_place(make_generator: Any, draw: Any) -> None:
    generator = make_generator(
        "sdxl", scheduler="EulerAncestralDiscreteScheduler", scheduler_options={"timestep_spacing": "trailing"}
    )
    first, second = draw(generator, [REQUEST, REQUEST.model_copy(update={"seed": 2})])
    assert first.executed.options["scheduler"] == "EulerAncestralDiscreteScheduler"
    assert first.error is second.error is None
    (alone,) = draw(generator, [REQUEST])
    difference = np.asarray(alone.image, dtype=int) - np.asarray(first.image, dtype=int)
    assert np.abs(difference).max() <= 1
    generator.unload()


def test_options_that_do_not_fit_say_so(tiny_pipeline: Any) -> None:
    folder = str(tiny_pipeline("sdxl"))
    assert "Scheduler 'Best' is not compatible with this pipeline." in reason(folder, scheduler="Best")
    assert "this machine has none; leave out the option" in reason(folder, offload="model", device="cpu")
    assert "SanaPipeline takes no IP-Adapter" in reason(
        str(tiny_pipeline("sana")), ip_adapter="x/y", ip_adapter_weight_name="z.bin"
    )
    assert "Run: hf download" in reason(folder, variant="fp16")


def test_dtype_and_autoencoder_options_reach_the_pipeline(make_generator: Any, draw: Any) -> None:
    import torch

    generator = make_generator(
        "sdxl", dtype="bfloat16", vae_tiling=True, vae_slicing=True, num_inference_steps=1, guidance_scale=3.0
    )
    (result,) = draw(generator, [ImageRequest(prompt="a fox", width=32, height=32)])
    assert result.error is None
    assert (result.executed.num_inference_steps, result.executed.guidance_scale) == (1, 3.0)
    pipeline = generator._call.pipeline
    assert pipeline.unet.dtype == pipeline.text_encoder.dtype == torch.bfloat16
    assert pipeline.vae.use_tiling and pipeline.vae.use_slicing
    generator.unload()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torchao, about itself
def test_weights_of_eight_bits_draw_nearly_the_same(make_generator: Any, draw: Any) -> None:
    whole, small = make_generator("sdxl"), make_generator("sdxl", quantization="8", quantization_backend="torchao")
    (first,), (second,) = draw(whole, [REQUEST]), draw(small, [REQUEST])
    assert second.error is None
    kinds = {type(weights).__name__ for weights in small._call.pipeline.unet.parameters()}
    assert any("Int8" in kind for kind in kinds), kinds
    difference = np.asarray(first.image, dtype=int) - np.asarray(second.image, dtype=int)
    assert 0 < np.abs(difference).max() < 40
    small.unload()
