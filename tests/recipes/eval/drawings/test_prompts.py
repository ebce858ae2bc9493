from __future__ import annotations

import json
from pathlib import Path

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.drawings.prompts import read_drawing_prompts

COCO = {
    "images": [
        {"split": "test", "sentences": [{"raw": " A dog runs. "}, {"raw": "A dog."}]},
        {"split": "train", "sentences": [{"raw": "A cat."}]},
    ]
}
BENCH = 'Prompts,Category\n"A red car, and a sheep.",Colors\nA fox.,Counting\n'


@pytest.mark.parametrize(
    ("name", "text", "prompts"),
    [
        ("dataset_coco.json", json.dumps(COCO), ["A dog runs."]),
        ("drawbench.csv", BENCH, ["A red car, and a sheep.", "A fox."]),
        ("lima.jsonl", json.dumps({"conversations": ["Draw a fox.", "No."]}) + "\n", ["Draw a fox."]),
        ("some.jsonl", json.dumps({"prompt": "a fox"}) + "\n\n", ["a fox"]),
        ("plain.txt", "a fox\n\na bear\n", ["a fox", "a bear"]),
    ],
)
def test_files_of_prompts(name: str, text: str, prompts: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert read_drawing_prompts(tmp_path / name) == prompts


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(COCO))
    with pytest.raises(InputError, match="needs pictures of the split 'val'"):
        read_drawing_prompts(file, "val")
    file.write_text("{}")
    with pytest.raises(InputError, match="has no prompts that can be read: KeyError"):
        read_drawing_prompts(file)
    with pytest.raises(InputError, match="There is no file"):
        read_drawing_prompts(tmp_path / "none.txt")
