"""A new model of pretrained parts: the parts are in it as they were, and what is new is new."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedModel,
)

from mgem_agent.core_model import HighResEncoder, MiniGeminiConfig, MiniGeminiForConditionalGeneration
from mgem_agent.errors import CheckpointError, GeometryError, InputError

PHI = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 100}
IDS = torch.arange(3, 20).unsqueeze(0)


@pytest.fixture(scope="module")
def config(make_config: Callable[..., MiniGeminiConfig]) -> MiniGeminiConfig:
    return make_config()


@pytest.fixture
def vision(config: MiniGeminiConfig) -> CLIPVisionModel:
    return CLIPVisionModel(CLIPVisionConfig(**config.vision_config.to_dict())).eval()


@pytest.fixture
def high_res(config: MiniGeminiConfig) -> HighResEncoder:
    return HighResEncoder(config.high_res_vision_config).eval()


@pytest.fixture
def make_text(make_config: Callable[..., MiniGeminiConfig]) -> Callable[..., PreTrainedModel]:
    def make(family: str = "llama", **options: Any) -> PreTrainedModel:
        model = AutoModelForCausalLM.from_config(make_config(family, **options).text_config).eval()
        model.generation_config.eos_token_id = [2, 7]
        return model

    return make


@pytest.fixture(scope="module")
def open_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw open_clip weights of a small ConvNeXt, among those of a whole CLIP model."""
    folder = tmp_path_factory.mktemp("open_clip")
    vision = {"timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": "linear", "image_size": 64}
    text = {"context_length": 8, "vocab_size": 50, "width": 8, "heads": 2, "layers": 1}
    model_config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_config}))
    save_file(open_clip.CLIP(**model_config).state_dict(), folder / "open_clip_model.safetensors")
    return folder


def assemble(*parts: Any, **fields: Any) -> MiniGeminiForConditionalGeneration:
    return MiniGeminiForConditionalGeneration.from_vision_text_pretrained(
        *parts, **{"high_res_image_size": 64, **fields}
    )


def images(model: MiniGeminiForConditionalGeneration) -> dict[str, Tensor]:
    low, high = model.config.geometry.low_res_input_size, model.config.high_res_image_size
    return {
        "pixel_values": torch.randn(1, 3, low, low),
        "high_res_pixel_values": torch.randn(1, 3, high, high),
    }


@pytest.mark.parametrize("family", ["llama", "gemma", "mixtral", "qwen3"])
def test_the_parts_are_in_it_as_they_were(
    vision: CLIPVisionModel, high_res: HighResEncoder, make_text: Callable[..., PreTrainedModel], family: str
) -> None:
    text = make_text(family)
    expected = text(IDS).logits
    pointers = {parameter.data_ptr() for part in (vision, high_res, text) for parameter in part.parameters()}
    model = assemble(
        vision, high_res, text, prompt_template="chatml", image_grid=2, image_global=True, high_res_image_size=128
    )
    assert torch.equal(model(IDS).logits, expected)
    assert pointers <= {parameter.data_ptr() for parameter in model.parameters()}
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert not model.training
    assert (model.config.image_token_id, model.config.prompt_template, model.dtype) == (100, "chatml", torch.float32)
    assert model.config.geometry.num_image_tokens == 80
    assert model.config.text_config is model.model.language_model.config
    assert model.generation_config.eos_token_id == [2, 7]
    assert model.generation_config is not text.generation_config
    features: Any = model.get_image_features(**images(model))
    assert len(features.pooler_output[0]) == 80


def test_mining_and_projector_are_new_and_start_as_the_authors_do(
    vision: CLIPVisionModel, high_res: HighResEncoder, make_text: Callable[..., PreTrainedModel]
) -> None:
    model = assemble(vision, high_res, make_text())
    trunk: Any = model.model
    for part in (trunk.mining, trunk.multi_modal_projector):
        for layer in part.modules():
            if isinstance(layer, nn.LayerNorm):
                assert torch.equal(layer.weight, torch.ones_like(layer.weight)) and not layer.bias.any()
            elif isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                for tensor in (layer.weight, layer.bias):
                    assert 0.7 * bound < tensor.abs().max() <= bound
    trained = {name.split(".")[1] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"mining", "multi_modal_projector", "language_model", "weight"}


def test_parts_on_disk(
    vision: CLIPVisionModel, make_text: Callable[..., PreTrainedModel], open_clip_folder: Path, tmp_path: Path
) -> None:
    text = make_text("gemma")
    text.save_pretrained(tmp_path / "text")
    vision.save_pretrained(tmp_path / "vision")
    model = assemble(str(tmp_path / "vision"), open_clip_folder, tmp_path / "text", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.config.tie_word_embeddings
    stored = load_file(open_clip_folder / "open_clip_model.safetensors")
    stem = stored["visual.trunk.stem.0.weight"]
    trunk: Any = model.model
    assert torch.equal(trunk.high_res_vision_tower.stem[0].weight, stem.bfloat16())
    expected = model(IDS).logits
    model.save_pretrained(tmp_path / "whole")
    loaded = MiniGeminiForConditionalGeneration.from_pretrained(str(tmp_path / "whole"))
    assert loaded.dtype == torch.bfloat16
    assert torch.equal(loaded(IDS).logits, expected)
    assert loaded.generation_config.eos_token_id == [2, 7]


def test_the_vision_half_of_a_whole_clip_model(
    config: MiniGeminiConfig, high_res: HighResEncoder, make_text: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9}
    clip = CLIPModel(
        CLIPConfig(
            text_config={**text, "bos_token_id": 1, "eos_token_id": 2}, vision_config=config.vision_config.to_dict()
        )
    )
    clip.save_pretrained(tmp_path)
    model = assemble(tmp_path, high_res, make_text())
    expected = clip.vision_model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.model.vision_tower.state_dict().items())


def test_by_default_all_is_of_the_language_model_s_dtype(
    vision: CLIPVisionModel, high_res: HighResEncoder, make_text: Callable[..., PreTrainedModel]
) -> None:
    model = assemble(vision, high_res, make_text().to(torch.bfloat16))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.config.dtype == torch.bfloat16
    assert model(torch.full((1, 16), 100), **images(model)).logits.dtype == torch.bfloat16


def test_a_head_that_was_untied_stays_its_own(
    vision: CLIPVisionModel, high_res: HighResEncoder, make_text: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    text = make_text("gemma")
    text.lm_head = nn.Linear(32, 100, bias=False)
    expected = text(IDS).logits
    model = assemble(vision, high_res, text)
    assert not model.config.tie_word_embeddings
    model.save_pretrained(tmp_path)
    assert torch.equal(MiniGeminiForConditionalGeneration.from_pretrained(str(tmp_path))(IDS).logits, expected)


def test_sampling_options_that_do_nothing_are_left_behind(
    vision: CLIPVisionModel, high_res: HighResEncoder, make_text: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    text = make_text()
    text.generation_config.temperature = 0.9  # as in Vicuna's files
    model = assemble(vision, high_res, text)
    assert model.generation_config.temperature is None
    model.save_pretrained(tmp_path)


def test_refuses_parts_of_another_kind(
    vision: CLIPVisionModel, high_res: HighResEncoder, make_text: Callable[..., PreTrainedModel]
) -> None:
    text = make_text()
    with pytest.raises(InputError, match="^vision must be a CLIPVisionModel, a folder or a hub id, got 'HighResEnc"):
        assemble(high_res, high_res, text)
    with pytest.raises(InputError, match="^high_res_vision must be a HighResEncoder, got 'CLIPVisionModel'"):
        assemble(vision, vision, text)
    trunk = AutoModel.from_config(text.config)
    message = (
        r"^text must be a causal language model, a folder or a hub id, got 'LlamaModel'\. "
        r"Load it with AutoModelForCausalLM\.$"
    )
    with pytest.raises(InputError, match=message):
        assemble(vision, high_res, trunk)
    with pytest.raises(InputError, match="has a bias"):
        assemble(vision, high_res, AutoModelForCausalLM.from_config(AutoConfig.for_model("phi", **PHI)))
    with pytest.raises(GeometryError):
        assemble(vision, high_res, text, high_res_image_size=60)


def test_refuses_a_part_whose_weights_are_not_all_there(
    vision: CLIPVisionModel, high_res: HighResEncoder, make_text: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    vision.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["pre_layrnorm.weight"]
    state["pre_layrnorm.bias"] = torch.zeros(7)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        CheckpointError, match="do not fit the CLIPVisionModel that its config.json describes"
    ) as caught:
        assemble(tmp_path, high_res, make_text())
    assert caught.value.missing == ("pre_layrnorm.weight",)
    assert caught.value.mismatched == ("pre_layrnorm.bias: (7,) in the file, (16,) in the model",)
