"""Batches: padding on the right, targets that are the answers alone, and what becomes of records that do not do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mgem_agent.core_model import MiniGeminiProcessor
from mgem_agent.errors import InputError
from mgem_agent.recipes.train.examples import NO_TARGET, Examples
from mgem_agent.recipes.train.records import RecordFile


@pytest.fixture(scope="module")
def processor(model_folder: Path) -> MiniGeminiProcessor:
    return MiniGeminiProcessor.from_pretrained(model_folder)


def make_examples(processor: MiniGeminiProcessor, *files: Path, **changes: Any) -> Examples:
    options: dict[str, Any] = {
        "prompt_template": "chatml",
        "image_aspect_ratio": "pad",
        "max_length": 256,
        "on_broken": "error",
        "on_too_long": "broken",
        **changes,
    }
    return Examples([RecordFile(file) for file in files], processor, **options)


def targets(processor: MiniGeminiProcessor, row: torch.Tensor) -> str:
    return processor.tokenizer.decode(row[row != NO_TARGET])


def test_the_answers_are_the_targets(processor: MiniGeminiProcessor, data_file: Path) -> None:
    examples = make_examples(processor, data_file)
    batch = examples.batch([3, 11, 8])
    labels, mask = batch.inputs["labels"], batch.inputs["attention_mask"]
    assert [targets(processor, row) for row in labels] == [
        "It is white.<|im_end|>",
        "<h> hello </h><|im_end|>",
        "<h> hello </h><|im_end|>",
    ]
    assert batch.num_targets == int((labels != NO_TARGET).sum())
    assert batch.num_tokens == int(mask.sum())
    assert bool((mask.diff(dim=1) <= 0).all())  # padding on the right
    kept = labels != NO_TARGET
    assert torch.equal(labels[kept], batch.inputs["input_ids"][kept])
    assert "Say hello. <GEN><|im_end|>" in processor.decode(batch.inputs["input_ids"][1])
    assert "<GEN>" not in processor.decode(batch.inputs["input_ids"][2])


def test_pictures_are_read_and_text_has_none(processor: MiniGeminiProcessor, data_file: Path) -> None:
    examples = make_examples(processor, data_file)
    batch = examples.batch([0, 8, 1])
    assert batch.inputs["pixel_values"].shape == (2, 3, 28, 28)
    assert batch.inputs["high_res_pixel_values"].shape == (2, 3, 64, 64)
    assert (batch.inputs["input_ids"] == processor.image_token_id).sum(1).tolist() == [16, 0, 16]
    assert "pixel_values" not in examples.batch([8]).inputs
    cropped = make_examples(processor, data_file, image_aspect_ratio="square").batch([0])
    assert not torch.equal(cropped.inputs["pixel_values"], batch.inputs["pixel_values"][:1])


def test_plain_keeps_captions_alone(processor: MiniGeminiProcessor, data_file: Path) -> None:
    batch = make_examples(processor, data_file, prompt_template="plain").batch([0])
    assert targets(processor, batch.inputs["labels"][0]) == "It is red.\n"
    assert "What" not in processor.decode(batch.inputs["input_ids"][0])


def test_sizes_count_visual_tokens(processor: MiniGeminiProcessor, data_file: Path) -> None:
    lengths, images, owners = make_examples(processor, data_file, data_file).sizes()
    assert images == ([1] * 8 + [0] * 4) * 2
    assert owners == [0] * 12 + [1] * 12
    assert min(lengths[:8]) > 16


def test_what_is_too_long_is_cut_or_left_out(processor: MiniGeminiProcessor, data_file: Path) -> None:
    whole = make_examples(processor, data_file).batch([0])
    length = whole.inputs["input_ids"].shape[1]
    cut = make_examples(processor, data_file, max_length=length - 6, on_too_long="cut").batch([0])
    assert torch.equal(cut.inputs["input_ids"], whole.inputs["input_ids"][:, :-6])
    with pytest.raises(InputError, match=rf"\(too long\): it has {length} tokens; data.max_length is {length - 6}"):
        make_examples(processor, data_file, max_length=length - 6).batch([0])
    with pytest.raises(InputError, match=r"\(too long\)"):  # an image is never cut
        make_examples(processor, data_file, max_length=20, on_too_long="cut").batch([0])
    with pytest.raises(InputError, match=r"\(nothing to learn\)"):
        make_examples(processor, data_file, max_length=45, on_too_long="cut").batch([0])


def test_a_broken_record_is_replaced_by_the_next(processor: MiniGeminiProcessor, data_file: Path) -> None:
    file = data_file.parent / "some_broken.jsonl"
    whole = RecordFile(data_file)
    kept = [whole[0] | {"image": "gone.png"}, {"conversations": []}, whole[9]]
    file.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
    batch = make_examples(processor, file, on_broken="skip").batch([0, 1])
    assert [(record.position, record.reason) for record in batch.broken] == [
        (0, "missing picture"),
        (1, "malformed"),
        (1, "malformed"),
    ]
    same = make_examples(processor, data_file).batch([9, 9])
    assert torch.equal(batch.inputs["input_ids"], same.inputs["input_ids"])
    file.write_text("".join(json.dumps(record) + "\n" for record in kept[:2]), encoding="utf-8")
    with pytest.raises(InputError, match=r"^No usable record was found; the last error: it has no answer\."):
        make_examples(processor, file, on_broken="skip").batch([0])
