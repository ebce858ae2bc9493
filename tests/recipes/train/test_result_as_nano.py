"""From the command that trains to the chat model that answers: what is exported small is what `nano` is made of."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from langchain_core.messages import HumanMessage
from PIL import Image
from transformers import CLIPTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

from mgem_agent import ChatMiniGemini
from mgem_agent.chat_models.core_engine import CoreEngine
from mgem_agent.cli.app import app
from mgem_agent.errors import CheckpointError, InputError
from mgem_agent.nano import find_nano, load_nano, vision_language
from mgem_agent.recipes.nano.seeing.clip_pretrain import ContrastiveModel, EncodersConfig
from mgem_agent.recipes.train import model_setup
from mgem_agent.recipes.train.config import TrainConfig
from mgem_agent.recipes.train.config_file import load_config
from mgem_agent.recipes.train.model_setup import load_trained, prepare_model

PROMPT = "<image>\nWhat is it?"


def mgem(*words: str) -> str:
    finished = CliRunner().invoke(app, list(words))
    assert finished.exit_code == 0, finished.output
    return finished.stdout


@pytest.fixture
def encoders(tmp_path: Path) -> Path:
    """Tiny encoders, as their recipe writes them."""
    config = EncodersConfig(
        low_res_px=32, patch_px=8, high_res_px=64, width=32, num_layers=2, num_text_layers=1, embed_dim=16,
        max_tokens=16, convnext="test_convnext",
    )  # fmt: skip
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer(vocab={"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "a</w>": 3}, merges=[])
    ContrastiveModel(config, tokenizer).save(tmp_path / "encoders", tokenizer, config)
    return tmp_path / "encoders"


@pytest.fixture
def language_model(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A tiny language model, as nano's is kept: head and embedding are one."""
    torch.manual_seed(1)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=100, max_position_embeddings=1024, tie_word_embeddings=True, initializer_range=0.3,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.generation_config.suppress_tokens = [0, 1, 2, 3, 4, 5]
    model.save_pretrained(tmp_path / "text")
    tokenizer.save_pretrained(tmp_path / "text")
    return tmp_path / "text"


@pytest.fixture
def run(
    settings: dict[str, Any], encoders: Path, language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A finished run of two steps, by the command line, whose configuration names the language model `nano`."""
    monkeypatch.setenv("MGEM_NANO_LLM", str(language_model))
    monkeypatch.setenv("MGEM_CACHE", str(tmp_path / "cache"))
    parts = {"vision": str(encoders / "clip"), "high_res_vision": str(encoders / "convnext"), "text": "nano"}
    settings["model"] = {**parts, "prompt_template": "chatml", "high_res_image_size": 64}
    settings["run"]["max_steps"] = 2
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(settings))
    assert mgem("train", str(tmp_path / "train.yaml")) == f"{settings['run']['output']}\n"
    return Path(settings["run"]["output"])


def scores(model: Any, processor: Any) -> torch.Tensor:
    inputs = processor(text=PROMPT, images=Image.new("RGB", (40, 30), "red"), return_tensors="pt")
    with torch.no_grad():
        return model.eval()(**inputs).logits


def test_what_is_trained_is_what_answers(
    run: Path, language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    trained = prepare_model(load_config(run / "config.yaml"), torch.float32)
    assert "text_model" not in capfd.readouterr().err, "a table of keys that no one asked for"
    before = scores(trained.model, trained.processor)
    load_trained(trained.model, run)
    wanted = scores(trained.model, trained.processor)
    assert (wanted - before).abs().max() > 0.05

    out = tmp_path / "small"
    mgem("train", "export", str(run), str(out), "--small")
    where: dict[str, Any] = {"folder": out, "language_model": language_model}
    model, processor = load_nano(**where, exact=True)
    torch.testing.assert_close(scores(model, processor), wanted, atol=0.02, rtol=0.02)

    whole = find_nano(**where)
    monkeypatch.delattr(vision_language, "_put_together")
    again, same = load_nano(**where, exact=True)
    assert find_nano(**where) == whole
    assert torch.equal(scores(again, same), scores(model, processor))

    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, "PNG")
    picture = {"type": "image", "base64": base64.b64encode(buffer.getvalue()).decode(), "mime_type": "image/png"}
    question = HumanMessage([picture, {"type": "text", "text": "What is it?"}])
    chat = ChatMiniGemini(model="nano", engine_factory=lambda name: CoreEngine(model, processor), max_tokens=6)
    answer: Any = chat.invoke([question])
    assert answer.text
    assert answer.usage_metadata["input_token_details"]["image"] == processor.num_image_tokens == 16


def test_a_training_goes_on_from_what_was_exported(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(run / "config.yaml")
    trained = prepare_model(config, torch.float32)
    load_trained(trained.model, run)
    out = tmp_path / "small"
    mgem("train", "export", str(run), str(out), "--small")

    def begun(checkpoint: str, **changes: Any) -> Any:
        model = {"checkpoint": checkpoint, "prompt_template": "chatml", **changes.pop("model", {})}
        fields = config.model_dump() | {"model": model} | changes
        return prepare_model(type(config).model_validate(fields), torch.float32)

    again = begun(str(out))
    names = {name for name, value in trained.model.named_parameters() if value.requires_grad}
    assert {name for name, value in again.model.named_parameters() if value.requires_grad} == names
    for name in names:
        torch.testing.assert_close(
            again.model.get_parameter(name), trained.model.get_parameter(name), rtol=1e-3, atol=1e-4
        )
    wanted = scores(trained.model, trained.processor)
    torch.testing.assert_close(scores(again.model, again.processor), wanted, atol=0.02, rtol=0.02)
    frozen = begun(str(out), stage="align", train={})  # its adapter is merged where none is trained
    torch.testing.assert_close(scores(frozen.model, frozen.processor), wanted, atol=0.02, rtol=0.02)

    monkeypatch.setattr(model_setup, "VLM_WEIGHTS", out)
    nano = begun("nano")
    torch.testing.assert_close(scores(nano.model, nano.processor), wanted, atol=0.02, rtol=0.02)
    with pytest.raises(CheckpointError, match=r"does not fit the model"):
        begun(str(out), train={"llm": "lora", "lora": {"rank": 3}})
    with pytest.raises(CheckpointError, match=r"its rank is 2 and its alpha 16, train.lora has 2 and 4\. Set"):
        begun(str(out), train={"llm": "lora", "lora": {"rank": 2, "alpha": 4}})
    (out / "adapter" / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"is not an adapter: .*Export the run again\."):
        begun(str(out))
    (out / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"is not an adapter: it has no adapter_model.safetensors\. Export"):
        begun(str(out))


def test_a_whole_checkpoint_has_a_language_model_of_its_own(settings: dict[str, Any]) -> None:
    settings["model"]["text"] = "nano"
    with pytest.raises(InputError, match=r"has its own language model, but model.text is 'nano'. Omit one"):
        prepare_model(TrainConfig.model_validate(settings), torch.float32)
