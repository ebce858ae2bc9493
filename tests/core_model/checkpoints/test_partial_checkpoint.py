"""A model taken apart into its language model and all the rest, and put together again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, PreTrainedModel

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, load_without_language_model
from mgem_agent.core_model.checkpoints.partial_checkpoint import ADAPTER_FOLDER, WEIGHTS_FILE, own_weights
from mgem_agent.errors import CheckpointError

Make = Callable[..., MiniGeminiForConditionalGeneration]


def language_model_of(model: MiniGeminiForConditionalGeneration) -> PreTrainedModel:
    """A language model of its own with the same weights."""
    alone = LlamaForCausalLM(model.config.text_config)
    alone.model.load_state_dict(model.model.language_model.state_dict())
    alone.lm_head.load_state_dict(model.lm_head.state_dict())
    return alone


def scores(model: MiniGeminiForConditionalGeneration) -> torch.Tensor:
    torch.manual_seed(1)
    ids = torch.randint(3, 99, (1, 24))
    ids[0, 2:18] = 100
    with torch.no_grad():
        logits = model(
            input_ids=ids,
            pixel_values=torch.randn(1, 3, 28, 28),
            high_res_pixel_values=torch.randn(1, 3, 64, 64),
        ).logits
    assert logits is not None
    return logits


def write(model: MiniGeminiForConditionalGeneration, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    folder.mkdir()
    weights = {name: value.to(dtype).contiguous() for name, value in own_weights(model).items()}
    save_file(weights, folder / WEIGHTS_FILE)
    model.config.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tied", [False, True])
def test_the_whole_is_the_same_again(make_model: Make, tmp_path: Path, tied: bool) -> None:
    model = make_model(tie_word_embeddings=tied)
    model.config.vision_feature_layer = -1
    model.config.prompt_template = "chatml"
    folder = write(model, tmp_path / "own")
    assert not any("language_model" in name or "lm_head" in name for name in load_file(folder / WEIGHTS_FILE))
    again = load_without_language_model(folder, language_model_of(model))
    assert torch.equal(scores(again), scores(model))
    assert (again.config.prompt_template, again.config.vision_feature_layer) == ("chatml", -1)
    assert not again.training
    again.save_pretrained(tmp_path / "whole")
    whole = MiniGeminiForConditionalGeneration.from_pretrained(tmp_path / "whole")
    assert torch.equal(scores(whole), scores(model))
    assert (whole.lm_head.weight is whole.get_input_embeddings().weight) == tied


def test_the_type_of_the_weights_is_the_language_models_or_the_one_asked_for(make_model: Make, tmp_path: Path) -> None:
    model = make_model()
    folder = write(model, tmp_path / "own", torch.float16)
    language_model_of(model).to(torch.bfloat16).save_pretrained(tmp_path / "text")
    again = load_without_language_model(folder, tmp_path / "text")
    assert {value.dtype for value in again.parameters()} == {torch.bfloat16}
    assert again.config.dtype == torch.bfloat16
    exact = load_without_language_model(folder, tmp_path / "text", dtype=torch.float32)
    assert {value.dtype for value in exact.parameters()} == {torch.float32}
    torch.testing.assert_close(scores(exact), scores(model), atol=1e-2, rtol=1e-2)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks it
def test_an_adapter_is_merged(make_model: Make, tmp_path: Path) -> None:
    model = make_model()
    folder, text = write(model, tmp_path / "own"), language_model_of(model)
    before = scores(model)
    options: Any = {"target_modules": r"model\.language_model\..*\.q_proj", "init_lora_weights": False}
    adapted: Any = get_peft_model(model, LoraConfig(r=2, **options))  # type: ignore[arg-type]
    adapted.save_pretrained(folder / ADAPTER_FOLDER)
    again = load_without_language_model(folder, text)
    torch.testing.assert_close(scores(again), scores(model))
    assert (scores(again) - before).abs().max() > 1e-3
    assert not any("lora" in name for name, _ in again.named_parameters())


def test_what_does_not_fit_is_named(make_model: Make, tmp_path: Path) -> None:
    model = make_model()
    folder = write(model, tmp_path / "own")
    other = LlamaForCausalLM(type(model.config.text_config)(**{**model.config.text_config.to_dict(), "vocab_size": 50}))
    with pytest.raises(
        CheckpointError,
        match=r"This is not the language model that .*own' was trained with\. Give that language model\.",
    ) as told:
        load_without_language_model(folder, other)
    assert told.value.mismatched == ("vocab_size: 50, trained with 100",)
    weights = load_file(folder / WEIGHTS_FILE)
    name = next(name for name in weights if name.endswith("stem.0.weight"))
    save_file({**weights, name: torch.zeros(2, 3, 4, 4), "model.more": torch.zeros(1)}, folder / WEIGHTS_FILE)
    with pytest.raises(CheckpointError, match=r"do not fit its config\.json\. Export the run again\.") as told:
        load_without_language_model(folder, language_model_of(model))
    assert told.value.mismatched == (f"{name}: (2, 3, 4, 4), needed (4, 3, 4, 4)",)
    assert (told.value.missing, told.value.unexpected) == ((), ("model.more",))


def test_a_folder_that_is_none(make_model: Make, tmp_path: Path) -> None:
    model = make_model()
    expected = r"is not a model saved without its language model: .*Make one with: mgem train export --small$"
    with pytest.raises(CheckpointError, match=expected):
        load_without_language_model(tmp_path / "nowhere", language_model_of(model))
    folder = write(model, tmp_path / "own")
    (folder / WEIGHTS_FILE).write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=expected):
        load_without_language_model(folder, language_model_of(model))
