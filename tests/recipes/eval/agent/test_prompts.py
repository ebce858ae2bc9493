from __future__ import annotations

import json
from pathlib import Path

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.agent.prompts import read_prompts

LINE = {
    "prompt": "two white cats",
    "atom_count": 3,
    "vqa_list": [["How many cats are in the image?", "two"], ["Are the cats white?", "Yes"], ["Any cats?", "Yes"]],
    "skills": ["count", "attribute", "object"],
}


def test_lines_of_geneval2_are_read(tmp_path: Path) -> None:
    file = tmp_path / "geneval2_data.jsonl"
    file.write_text(json.dumps(LINE) + "\n\n" + json.dumps({**LINE, "extra": 1}) + "\n")
    first, _ = read_prompts(file)
    assert first.vqa_list[0] == ("How many cats are in the image?", "two") and first.atom_count == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"Line 1 of .* is no prompt of GenEval 2's form"),
        (json.dumps({**LINE, "skills": ["count"]}), "3 questions have 1 skills"),
        ("\n", "has no prompts"),
    ],
)
def test_other_lines_are_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        read_prompts(file)
    with pytest.raises(InputError, match="geneval2_data.jsonl, of github.com/facebookresearch/GenEval2"):
        read_prompts(tmp_path / "none.jsonl")
