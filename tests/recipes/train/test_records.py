"""Records in LLaVA's format, whole and broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.train.records import (
    BrokenRecordError,
    RecordFile,
    RecordSummary,
    dialogue_of,
    pictures_of,
    repaired_dialogue,
    summarise,
)


def turns(*values: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[index % 2], "value": value} for index, value in enumerate(values)]


def test_a_record_becomes_messages(data_file: Path) -> None:
    record = {
        "image": ["red.png", "green.png"],
        "conversations": turns("Are they<image>\nalike?\n<image>", "No.", "Draw both. <GEN>", "<h> both </h>"),
    }
    red, green = (data_file.parent / name for name in record["image"])
    assert dialogue_of(record, data_file.parent) == [
        {
            "role": "user",
            "content": [
                {"type": "image", "path": red},
                {"type": "image", "path": green},
                {"type": "text", "text": "Are they\nalike?"},
            ],
        },
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": "Draw both.", "draw": True},
        {"role": "assistant", "content": "<h> both </h>"},
    ]


def test_an_answer_that_comes_first_is_left_out() -> None:
    conversations = [{"from": "gpt", "value": "Hm."}, *turns("Hi.", "Hello.")]
    messages = dialogue_of({"conversations": conversations}, Path("."))
    assert messages == [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]


@pytest.mark.parametrize(
    ("record", "reason", "expected"),
    [
        ([], "malformed", "a record is an object, got []"),
        ({"conversations": "no"}, "malformed", "'conversations' must be a list of turns, got 'no'"),
        ({"conversations": turns("Hi.")}, "malformed", "it has no answer"),
        ({"conversations": [*turns("?"), *turns("?")]}, "malformed", "it has no answer"),
        ({"conversations": [*turns("?"), *turns("?", "!")]}, "malformed", "questions and answers must alternate, got"),
        ({"image": "../x.png", "conversations": []}, "malformed", "'image' must be a path within"),
        ({"image": "/x.png", "conversations": []}, "malformed", "'image' must be a path within"),
        ({"image": "gone.png", "conversations": []}, "missing picture", "there is no picture"),
        ({"conversations": [{"from": "robot", "value": "Hi."}]}, "malformed", "a turn has 'from' (human, user, gpt"),
    ],
)
def test_what_is_broken_is_named(data_file: Path, record: Any, reason: str, expected: str) -> None:
    with pytest.raises(BrokenRecordError) as caught:
        dialogue_of(record, data_file.parent)
    assert str(caught.value).startswith(expected)
    assert caught.value.reason == reason


def test_a_list_and_lines_read_the_same(data_file: Path, tmp_path: Path) -> None:
    lines = RecordFile(data_file)
    listed = tmp_path / "records.json"
    listed.write_text(json.dumps([lines[position] for position in range(len(lines))]), encoding="utf-8")
    assert len(RecordFile(listed)) == len(lines) == 12
    assert all(RecordFile(listed)[position] == lines[position] for position in range(12))
    assert lines.images == data_file.parent
    assert RecordFile(listed, data_file.parent).images == data_file.parent


def test_a_line_that_is_not_json_breaks_that_record_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": "ä"}\n\n{\n{"b": 2}', encoding="utf-8")
    records = RecordFile(file)
    assert len(records) == 3
    assert (records[0], records[2]) == ({"a": "ä"}, {"b": 2})
    with pytest.raises(BrokenRecordError, match="the line is not JSON"):
        records[1]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.jsonl", "", r"hold no record\. Create them with: mgem data"),
        ("a.json", "{}", r"are not a JSON list: it does not begin with '\['"),
        ("a.json", "{}\n{}", r"are not a JSON list: .*Name it \.jsonl"),
        ("a.json", '[{"a": 1}, {"b"', r"are not a JSON list: .*Name it \.jsonl"),
        ("a.json", "[{}] x", r"are not a JSON list: there is more after the list"),
        ("a.json", "[]", r"hold no record"),
        ("a.json", None, r"cannot be read: No such file or directory\. Create it with: mgem data"),
    ],
)
def test_a_file_that_is_no_list_of_records_is_named(tmp_path: Path, name: str, text: str | None, expected: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=expected):
        RecordFile(tmp_path / name)


def test_a_summary_takes_anything() -> None:
    text = turns("<image>" + "a" * 33, "b" * 40)
    assert summarise({"conversations": text}) == RecordSummary(0, 80)
    assert summarise({"image": ["a.png", "b.png"], "conversations": text}) == RecordSummary(2, 80)
    for broken in (None, [], {}, {"conversations": 3}, {"conversations": [3]}):
        assert summarise(broken) == RecordSummary(0, 0)


@pytest.mark.parametrize(
    ("image", "values", "shown", "repairs"),
    [
        ("red.png", ["<image>\n<image> What?", "Red."], [1], ["more marks than pictures"]),
        ("red.png", ["<image> What?", "Red.", "<image> Sure?", "Yes."], [1, 0], ["more marks than pictures"]),
        ("red.png", ["What?", "Red.", "<image> Sure?", "Yes."], [0, 1], []),
        ("red.png", ["What?", "Red."], [1], ["picture without a mark"]),
        ("red.png", ["<image> What?", "<image> Red."], [1], ["mark in an answer"]),
        (None, ["<image> What?", "Red."], [0], ["mark without a picture"]),
        (["red.png", "green.png"], ["<image> What?", "Red.", "And?", "No."], [2, 0], ["picture without a mark"]),
    ],
)
def test_marks_are_repaired(
    data_file: Path, image: Any, values: list[str], shown: list[int], repairs: list[str]
) -> None:
    record = {"conversations": turns(*values)} | ({} if image is None else {"image": image})
    dialogue = repaired_dialogue(record, data_file.parent)
    assert list(dialogue.repairs) == repairs
    questions = [message["content"] for message in dialogue.messages if message["role"] == "user"]
    assert [0 if isinstance(content, str) else len(content) - 1 for content in questions] == shown
    assert "<image>" not in str(dialogue.messages)


def test_pictures_under_the_authors_other_names_are_found(tmp_path: Path) -> None:
    for name in ("ocr_vqa/1.png", "vg/images/2.jpg", "coco/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    for name, file in (("ocr_vqa/1.jpg", "ocr_vqa/1.png"), ("vg/VG_100K_2/2.jpg", "vg/images/2.jpg")):
        assert pictures_of({"image": name}, tmp_path) == [tmp_path / file]
    with pytest.raises(BrokenRecordError, match="there is no picture"):
        pictures_of({"image": "coco/3.jpg"}, tmp_path)
