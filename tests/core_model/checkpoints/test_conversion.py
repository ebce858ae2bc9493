"""Checkpoints of the authors' become folders in this library's layout, or nothing."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoTokenizer, PreTrainedTokenizerFast

from mgem_agent.core_model import MiniGeminiForConditionalGeneration
from mgem_agent.core_model.checkpoints import conversion
from mgem_agent.core_model.checkpoints.conversion import convert_checkpoint
from mgem_agent.core_model.checkpoints.inspection import inspect_checkpoint
from mgem_agent.core_model.processing import MiniGeminiProcessor
from mgem_agent.errors import CheckpointError, InputError

Tensors = dict[str, torch.Tensor]


def assert_same_weights(first: Path, second: Path) -> None:
    one = MiniGeminiForConditionalGeneration.from_pretrained(first).state_dict()
    other = MiniGeminiForConditionalGeneration.from_pretrained(second).state_dict()
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


@pytest.fixture
def official(folder: Any, tiny_config: Callable[..., Any], tiny_tensors: Callable[..., Tensors]) -> Path:
    folder.write_config(tiny_config())
    folder.write(tiny_tensors(), num_shards=2)
    path: Path = folder.path
    return path


@pytest.mark.parametrize(
    ("family", "form", "max_shard_size"),
    [
        ("llama", "safetensors", "20KB"),
        ("mixtral", "bin", "30KB"),
        ("gemma", "bin", "5GB"),
        ("mistral", "safetensors", 1),
    ],
)
def test_the_new_folder_is_the_same_model(
    family: str,
    form: str,
    max_shard_size: int | str,
    folder: Any,
    tiny_config: Callable[..., Any],
    tiny_tensors: Callable[..., Tensors],
    tmp_path: Path,
) -> None:
    tensors = tiny_tensors(family)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    folder.write_config(tiny_config(family))
    folder.write(tensors, form=form, num_shards=2)
    steps: list[tuple[int, int]] = []
    report = convert_checkpoint(
        folder.path, tmp_path / "new", max_shard_size=max_shard_size, progress=lambda *step: steps.append(step)
    )
    assert report.is_complete and report.format == "ours"
    assert report.path == str(tmp_path / "new")
    assert report.num_parameters == sum(tensor.numel() for tensor in tensors.values()) - 4
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1] == (report.num_bytes, report.num_bytes)
    if max_shard_size == 1:
        assert len(report.files) == len(tensors) - 1
    assert_same_weights(folder.path, tmp_path / "new")
    assert isinstance(AutoModelForImageTextToText.from_pretrained(tmp_path / "new"), MiniGeminiForConditionalGeneration)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my-net", "my-vit", "new", "official"]


def test_a_tied_head_is_written_once(
    folder: Any, tiny_config: Callable[..., Any], tiny_tensors: Callable[..., Tensors], tmp_path: Path
) -> None:
    tensors = tiny_tensors("gemma")
    folder.write_config(tiny_config("gemma"))
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    folder.write(tensors)
    convert_checkpoint(folder.path, tmp_path / "tied")
    assert json.loads((tmp_path / "tied" / "config.json").read_text())["tie_word_embeddings"] is True
    notes = inspect_checkpoint(tmp_path / "tied").notes
    assert [note for note in notes if "tokenizer" not in note] == []  # this folder has none

    tensors["lm_head.weight"][-1, -1] += 1
    folder.write(tensors)
    convert_checkpoint(folder.path, tmp_path / "apart")
    assert json.loads((tmp_path / "apart" / "config.json").read_text())["tie_word_embeddings"] is False
    assert_same_weights(folder.path, tmp_path / "apart")


def test_another_type_and_the_generation_config(official: Path, tmp_path: Path) -> None:
    vicuna = {"bos_token_id": 1, "pad_token_id": 0, "max_length": 4096, "temperature": 0.9, "top_p": 0.6}
    (official / "generation_config.json").write_text(json.dumps(vicuna))
    report = convert_checkpoint(official, tmp_path / "new", dtype="bfloat16")
    assert report.dtypes.keys() == {"bfloat16"}
    assert json.loads((tmp_path / "new" / "config.json").read_text())["dtype"] == "bfloat16"
    assert json.loads((tmp_path / "new" / "generation_config.json").read_text())["pad_token_id"] == 0
    model = MiniGeminiForConditionalGeneration.from_pretrained(tmp_path / "new")
    assert model.dtype == torch.bfloat16
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()}
    assert len(modes) == 1, "every file is for the same readers"
    again = convert_checkpoint(tmp_path / "new", tmp_path / "again", dtype=torch.float32)
    assert again.dtypes.keys() == {"float32"}


def test_a_destination_is_not_overwritten_unasked(official: Path, tmp_path: Path) -> None:
    target = tmp_path / "new"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"is not empty\. Give another folder, or allow overwriting\.$"):
        convert_checkpoint(official, target)
    assert (target / "notes.txt").read_text() == "mine"
    assert convert_checkpoint(official, target, overwrite=True).is_complete
    assert not (target / "notes.txt").exists()
    (tmp_path / "empty").mkdir()
    assert convert_checkpoint(official, tmp_path / "empty").is_complete
    assert not list(tmp_path.glob(".*"))


def test_destinations_that_cannot_be(official: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Source and destination are the same folder"):
        convert_checkpoint(official, official, overwrite=True)
    with pytest.raises(CheckpointError, match="contains the source"):
        convert_checkpoint(official, tmp_path, overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="is a file. Give a folder."):
        convert_checkpoint(official, tmp_path / "file")
    with pytest.raises(InputError) as caught:
        convert_checkpoint(official, tmp_path / "new", dtype="int4")
    assert str(caught.value) == "Cannot write weights as 'int4'. Allowed: 'float32', 'float16', 'bfloat16'."


def test_a_source_that_is_not_whole_is_refused_with_the_list(official: Path, folder: Any, tmp_path: Path) -> None:
    tensors = {"lm_head.weight": torch.ones(100, 32), "more": torch.ones(1)}
    (official / "model.safetensors.index.json").unlink()
    folder.write(tensors)
    with pytest.raises(CheckpointError, match="it is not a complete Mini-Gemini checkpoint") as caught:
        convert_checkpoint(official, tmp_path / "new")
    assert "model.mm_projector.0.weight" in caught.value.missing
    assert caught.value.unexpected == ("more",)
    assert not (tmp_path / "new").exists()


def test_too_small_a_disk_is_told_before_anything_is_written(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(CheckpointError, match=r"^Converting needs 0\.1 GB in .*, which has 0\.0 GB free\. Make room"):
        convert_checkpoint(official, tmp_path / "new")
    assert not list(tmp_path.glob("*new*"))


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_fills_up_leaves_nothing(
    failure: Exception, official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    save = conversion.save_file

    def save_once(shard: Any, file: Path, **options: Any) -> None:
        if written:
            raise failure
        written.append(file)
        save(shard, file, **options)

    monkeypatch.setattr(conversion, "save_file", save_once)
    with pytest.raises(CheckpointError, match=r"is full; the partly written 'new' has been removed\. Make room"):
        convert_checkpoint(official, tmp_path / "new", max_shard_size="20KB")
    assert not written[0].exists()
    assert not list(tmp_path.glob("*new*"))


def test_an_interruption_leaves_nothing_and_the_old_folder_as_it_was(official: Path, tmp_path: Path) -> None:
    convert_checkpoint(official, tmp_path / "new")
    before = inspect_checkpoint(tmp_path / "new")

    def interrupt(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_checkpoint(official, tmp_path / "new", overwrite=True, dtype="float16", progress=interrupt)
    assert inspect_checkpoint(tmp_path / "new") == before
    assert not list(tmp_path.glob(".new*"))


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_of_that_name(official: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time;"
        "from mgem_agent.core_model.checkpoints.conversion import convert_checkpoint;"
        "progress = lambda done, total: done > total // 2 and (print(flush=True), time.sleep(60));"
        "convert_checkpoint(sys.argv[1], sys.argv[2], max_shard_size='20KB', progress=progress)"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code, str(official), str(tmp_path / "new")], stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    run.stdout.readline()
    run.kill()
    run.wait(timeout=30)
    run.stdout.close()
    assert not (tmp_path / "new").exists()
    (left,) = tmp_path.glob(".new.converting-*")
    assert list(left.glob("*.safetensors"))
    assert not inspect_checkpoint(left).is_complete


def test_the_tokenizer_comes_along_as_a_processor(official: Path, tmp_path: Path) -> None:
    words = {"<s>": 0, "</s>": 1, "<unk>": 2, "USER:": 3, "hello": 4}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=model, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
    tokenizer.save_pretrained(official)
    convert_checkpoint(official, tmp_path / "new")
    processor = MiniGeminiProcessor.from_pretrained(tmp_path / "new")
    assert (processor.image_token_id, processor.num_image_tokens) == (5, 16)
    assert processor.prompt_template == "vicuna_v1"
    prompt = processor(text="hello <image> hello", images=Image.new("RGB", (9, 5)), return_tensors="pt")
    assert prompt["input_ids"].tolist()[0].count(5) == 16
    loaded = MiniGeminiForConditionalGeneration.from_pretrained(tmp_path / "new")
    assert loaded.config.image_token_id == 5
    assert loaded(**prompt).logits.shape == (1, prompt["input_ids"].shape[1], 100)


@pytest.mark.parametrize("adds_bos", [True, False])
def test_a_server_makes_the_same_ids_with_the_new_tokenizer_alone(
    official: Path, tmp_path: Path, adds_bos: bool
) -> None:
    letters = {chr(code): code - 29 for code in range(32, 127)} | {"\n": 98, "<unk>": 0, "<s>": 1, "</s>": 2}
    model = tokenizers.Tokenizer(tokenizers.models.BPE(letters, [], unk_token="<unk>"))
    if adds_bos:
        bos = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        model.post_processor = bos
    PreTrainedTokenizerFast(tokenizer_object=model, bos_token="<s>", eos_token="</s>").save_pretrained(official)
    for source, folder in ((official, tmp_path / "once"), (tmp_path / "once", tmp_path / "twice")):
        convert_checkpoint(source, folder)
        processor = MiniGeminiProcessor.from_pretrained(folder)
        picture = {"type": "image", "image": Image.new("RGB", (9, 5))}
        dialogue = [{"role": "user", "content": [picture, {"type": "text", "text": "Hi <image>"}]}]
        ours = processor.apply_chat_template(dialogue, tokenize=True, add_generation_prompt=True)[0].tolist()
        # As vLLM's front end: the chat template of the folder, then the tokenizer without special tokens.
        shown = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Hi <image>"}]}]
        ids = AutoTokenizer.from_pretrained(folder).apply_chat_template(
            shown, tokenize=True, add_generation_prompt=True, return_dict=False
        )
        at = ids.index(processor.image_token_id)
        assert ids[:at] + [processor.image_token_id] * 16 + ids[at + 1 :] == ours
        assert (ids[0] == 1) is adds_bos


def test_a_template_of_the_owner_is_kept(official: Path, tmp_path: Path) -> None:
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<unk>": 0, "</s>": 1}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", unk_token="<unk>")
    tokenizer.save_pretrained(official)
    convert_checkpoint(official, tmp_path / "once")
    (tmp_path / "once" / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    convert_checkpoint(tmp_path / "once", tmp_path / "twice")
    assert (tmp_path / "twice" / "chat_template.jinja").read_text() == "{{ messages[0]['content'] }}"
