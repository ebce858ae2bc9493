"""The text of pictures in the questions: which turn gets it, what is kept, and that a run continues."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from mgem_agent.errors import InputError, ToolError
from mgem_agent.recipes.data import ocr
from mgem_agent.recipes.data.ocr import OcrSettings, write_ocr
from mgem_agent.recipes.data.record_files import read_records
from mgem_agent.tools import can_read_text

needs_ocr = pytest.mark.skipif(not can_read_text(), reason="needs the extra 'ocr'")
QUESTION = "<image>\nWhat is the total?"


def turns(*values: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[place % 2], "value": value} for place, value in enumerate(values)]


def write(folder: Path, records: list[Any]) -> Path:
    file = folder / "in.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return file


@pytest.fixture
def receipt(tmp_path: Path) -> Path:
    picture = Image.new("RGB", (220, 100), "white")
    pen = ImageDraw.Draw(picture)
    for top, words in ((10, "Coffee 2.40"), (55, "Total 2.40")):
        pen.text((10, top), words, fill="black", font=ImageFont.load_default(24))
    picture.save(tmp_path / "receipt.png")
    Image.new("RGB", (32, 32), "white").save(tmp_path / "empty.png")
    return tmp_path


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch, receipt: Path) -> dict[str, list[str]]:
    """Texts by the picture's name, in place of what the library reads."""
    known = {"receipt.png": ["Coffee 2.40", "Total <image> 2.40", "<h>"], "empty.png": []}

    def read(picture: Path, *, min_confidence: float) -> Any:
        return SimpleNamespace(lines=[SimpleNamespace(text=text) for text in known[picture.name]])

    monkeypatch.setattr(ocr, "read_text", read)
    ocr._texts.cache_clear()  # pyright: ignore[reportPrivateUsage]
    return known


@needs_ocr
def test_drawn_text_is_added_to_the_question(receipt: Path) -> None:
    ocr._texts.cache_clear()  # pyright: ignore[reportPrivateUsage]
    file = write(receipt, [{"id": "a", "image": "receipt.png", "conversations": turns(QUESTION, "2.40")}])
    report = write_ocr(file, receipt / "out.jsonl")
    (record,) = read_records(receipt / "out.jsonl")
    assert record["conversations"] == turns(f"{QUESTION}\nReference OCR token: Coffee 2.40, Total 2.40", "2.40")
    assert (report.states, report.num_texts) == ({"enriched": 1}, 2)


def test_the_turn_that_shows_a_picture_gets_its_text(receipt: Path, texts: dict[str, list[str]]) -> None:
    both = {
        "image": ["empty.png", "receipt.png"],
        "conversations": turns("<image> Is it empty?", "Yes.", "<image> It?"),
    }
    unmarked = {"image": "receipt.png", "conversations": turns("Total?", "2.40", "Sure?", "Yes.")}
    records = [
        both,
        unmarked,
        {"image": "empty.png", "conversations": turns(QUESTION, "None.")},
        {"conversations": turns("Hi.", "Hello.")},
        {"image": "gone.png", "conversations": turns(QUESTION, "2.40")},
    ]
    report = write_ocr(write(receipt, records), receipt / "out.jsonl")
    written = [[turn["value"] for turn in record["conversations"]] for record in read_records(receipt / "out.jsonl")]
    added = "\nReference OCR token: Coffee 2.40, Total 2.40"
    assert written[0] == ["<image> Is it empty?", "Yes.", f"<image> It?{added}"]
    assert written[1] == [f"Total?{added}", "2.40", "Sure?", "Yes."]
    assert written[2:] == [[turn["value"] for turn in record["conversations"]] for record in records[2:]]
    assert report.states == {"enriched": 2, "no text found": 1, "no picture": 1, "not read": 1}
    assert report.last_problem.startswith("record 4: there is no picture")
    again = write_ocr(receipt / "out.jsonl", receipt / "again.jsonl", images=receipt)
    assert again.states["has OCR text already"] == 2


def test_only_as_much_text_as_is_wanted_is_added(receipt: Path, texts: dict[str, list[str]]) -> None:
    texts["receipt.png"] = ["a" * 10, "b" * 10, "c" * 10]
    file = write(receipt, [{"image": "receipt.png", "conversations": turns(QUESTION, "?")}])
    write_ocr(file, receipt / "out.jsonl", settings=OcrSettings(max_chars=22))
    (record,) = read_records(receipt / "out.jsonl")
    assert record["conversations"][0]["value"].endswith(f"token: {'a' * 10}, {'b' * 10}")
    for settings, expected in (
        (OcrSettings(2.0), "min_confidence is 2.0"),
        (OcrSettings(max_chars=0), "max_chars is 0"),
    ):
        with pytest.raises(InputError, match=expected):
            write_ocr(file, receipt / "other.jsonl", settings=settings)
    with pytest.raises(InputError, match="was made with other settings"):
        write_ocr(file, receipt / "out.jsonl")
    with pytest.raises(InputError, match="is the input. Give another file"):
        write_ocr(file, file)


def test_an_interrupted_run_continues(
    receipt: Path, texts: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [
        {"id": str(number), "image": "receipt.png", "conversations": turns(QUESTION, "?")} for number in range(20)
    ]
    file = write(receipt, records)
    write_ocr(file, receipt / "whole.jsonl")

    def stop(done: int, total: int) -> None:
        assert total == 20
        if done == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_ocr(file, receipt / "cut.jsonl", report=stop)
    with (receipt / "cut.jsonl").open("a") as cut:
        cut.write('{"id": "11", "im')
    report = write_ocr(file, receipt / "cut.jsonl")
    assert (report.num_done_before, report.states.total()) == (11, 9)
    assert (receipt / "cut.jsonl").read_bytes() == (receipt / "whole.jsonl").read_bytes()


def test_what_is_no_record_or_a_broken_library_ends_the_run(
    receipt: Path, texts: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(receipt, [{"conversations": turns("Hi.", "Hello.")}, {"conversations": 3}])
    with pytest.raises(InputError, match=r"Record 1 of .*in.jsonl' has no 'conversations' with turns\. Correct it"):
        write_ocr(file, receipt / "out.jsonl")
    file.write_text('{"conversations": []}\n{\n')
    with pytest.raises(InputError, match=r"Record 1 of .*in.jsonl' cannot be read: the line is not JSON"):
        write_ocr(file, receipt / "other.jsonl")

    def fail(picture: Path, *, min_confidence: float) -> Any:
        raise ToolError("no memory")

    monkeypatch.setattr(ocr, "read_text", fail)
    ocr._texts.cache_clear()  # pyright: ignore[reportPrivateUsage]
    file = write(receipt, [{"image": "receipt.png", "conversations": turns(QUESTION, "?")}])
    with pytest.raises(ToolError, match="no memory"):
        write_ocr(file, receipt / "third.jsonl")


@needs_ocr
@pytest.mark.slow
def test_several_processes_write_the_same(receipt: Path) -> None:
    ocr._texts.cache_clear()  # pyright: ignore[reportPrivateUsage]
    records = [
        {"id": str(number), "image": ("receipt.png", "empty.png")[number % 2], "conversations": turns(QUESTION, "?")}
        for number in range(20)
    ]
    file = write(receipt, records)
    one = write_ocr(file, receipt / "one.jsonl")
    two = write_ocr(file, receipt / "two.jsonl", num_processes=2)
    assert one == two
    assert (receipt / "one.jsonl").read_bytes() == (receipt / "two.jsonl").read_bytes()
