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
from mgem_agent.recipes.train.records import RecordFile, dialogue_of


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
    assert images.tolist() == ([1] * 8 + [0] * 4) * 2
    assert owners.tolist() == [0] * 12 + [1] * 12
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


def write(file: Path, records: list[Any]) -> Path:
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return file


def test_a_broken_record_is_replaced_by_a_random_one_of_its_source(
    processor: MiniGeminiProcessor, data_file: Path
) -> None:
    whole = RecordFile(data_file)
    records = [whole[position] for position in range(12)]
    missing = [record | {"image": "gone.png"} for record in records[:4]]
    mixed = write(data_file.parent / "some_broken.jsonl", [*missing, *records[8:]])
    examples = make_examples(processor, data_file, mixed, on_broken="skip", seed=1)
    examples.sizes()
    assert examples.problems == {(str(mixed), "missing picture"): 4}
    batches = [examples.batch([12, 13, 14, 15], step) for step in range(20)]
    assert all([record.position for record in batch.broken] == [0, 1, 2, 3] for batch in batches)
    rows = [tuple(row[row != NO_TARGET].tolist()) for batch in batches for row in batch.inputs["labels"]]
    texts = [processor.decode(row) for batch in batches for row in batch.inputs["input_ids"]]
    assert {row.count("Say hello.") for row in texts} == {1, 2, 3, 4}  # all usable records of that file, no other
    assert len(set(rows)) == 1 and "hello" in texts[0]
    again = make_examples(processor, data_file, mixed, on_broken="skip", seed=1)
    again.sizes()
    assert torch.equal(again.batch([12, 13, 14, 15], 7).inputs["input_ids"], batches[7].inputs["input_ids"])


def test_many_missing_records_in_a_row_do_not_end_a_run(processor: MiniGeminiProcessor, data_file: Path) -> None:
    whole = RecordFile(data_file)
    gap = [whole[0] | {"image": f"gone{index}.png"} for index in range(1500)]
    file = write(data_file.parent / "gap.jsonl", [*gap, *(whole[position] for position in range(12))])
    examples = make_examples(processor, file, on_broken="skip")
    examples.sizes()
    first = [examples.batch([position], 0) for position in range(60)]
    assert all(len(batch.broken) == 1 for batch in first)
    shapes = {tuple(batch.inputs["input_ids"][0].tolist()) for batch in first}
    assert len(shapes) > 8  # not the record behind the gap again and again


def test_what_is_broken_is_told_before_the_first_step(processor: MiniGeminiProcessor, data_file: Path) -> None:
    whole = RecordFile(data_file)
    broken = [whole[0] | {"image": "gone.png"}, {"conversations": []}]
    file = write(data_file.parent / "all_broken.jsonl", broken)
    with pytest.raises(InputError, match=r"^Record 0 of .*all_broken.* \(missing picture\)(.|\n)*mgem data check$"):
        make_examples(processor, file).sizes()
    with pytest.raises(InputError, match=r"^No record of .* can be used; the last error: it has no answer\. Check"):
        make_examples(processor, file, on_broken="skip").sizes()
    with pytest.raises(InputError, match=r"^None of 1,000 random records of .* in place of record 1; the last error"):
        make_examples(processor, file, on_broken="skip", check_first=False).batch([1])


def test_repairs_are_reported(processor: MiniGeminiProcessor, data_file: Path) -> None:
    whole = RecordFile(data_file)
    file = write(data_file.parent / "marks.jsonl", [whole[0] | {"image": None}, whole[1]])
    batch = make_examples(processor, file).batch([0, 1])
    assert [(record.position, record.reason) for record in batch.repaired] == [(0, "mark without a picture")]


def test_tokens_are_those_of_the_processor(processor: MiniGeminiProcessor, data_file: Path) -> None:
    examples = make_examples(processor, data_file)
    messages = dialogue_of(RecordFile(data_file)[2], data_file.parent)
    features = processor.apply_chat_template(
        [messages], "chatml", tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    inputs = examples.batch([2]).inputs
    assert torch.equal(inputs["input_ids"], features["input_ids"])
    assert torch.equal((inputs["labels"] != NO_TARGET).long(), features["assistant_masks"])
    assert torch.equal(inputs["high_res_pixel_values"], features["high_res_pixel_values"])


def test_a_record_is_inspected_without_pixels(processor: MiniGeminiProcessor, data_file: Path) -> None:
    (data_file.parent / "bad.png").write_bytes(b"no picture")
    whole = RecordFile(data_file)
    file = write(data_file.parent / "inspected.jsonl", [whole[0], whole[0] | {"image": "bad.png"}, whole[8]])
    examples = make_examples(processor, file)
    good, bad, text = (examples.inspect(position) for position in range(3))
    assert (good.problem, good.num_images, good.num_tokens) == (
        None,
        1,
        make_examples(processor, file).batch([0]).num_tokens,
    )
    assert bad.problem is not None and bad.problem.reason == "unreadable picture"
    assert text.num_images == 0
    short = make_examples(processor, file, max_length=20).inspect(0)
    assert short.problem is not None and short.problem.reason == "too long"
    assert short.num_tokens == good.num_tokens  # known nevertheless, for the histogram
