from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from mgem_agent.errors import InputError, ToolError
from mgem_agent.recipes.eval.lmms.drawing import DrawnAnswers, draws
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner

ASKED = [{"role": "user", "content": [{"type": "text", "text": "A fox and a bear."}]}]


def test_answers_are_json_with_the_files_of_the_pictures(tmp_path: Path) -> None:
    reasoner = ScriptedReasoner(script=["Here: <h> a fox </h> <h> a bear </h>", "<h> a hen </h>"])
    shown = [{"role": "user", "content": [{"type": "image", "image": Image.new("RGB", (8, 8))}, *ASKED[0]["content"]]}]
    made = DrawnAnswers(reasoner, FlatColourGenerator(), tmp_path).answer([ASKED, shown], 64, ["task/1", "task/2"])
    first, second = map(json.loads, made)
    assert (first["text"], len(first["images"]), len(second["images"])) == ("Here:", 2, 1)
    assert len({*first["images"], *second["images"]}) == 3
    for file in first["images"] + second["images"]:
        with Image.open(file) as picture:
            assert picture.size == (256, 256)
    assert reasoner.requests[0].dialogue[-1]["draw"] and reasoner.requests[0].max_tokens == 64
    assert [part["type"] for part in reasoner.requests[1].dialogue[-1]["content"]] == ["image", "text"]


def test_a_picture_that_cannot_be_drawn_is_an_error(tmp_path: Path) -> None:
    broken = FlatColourGenerator(fail_on="fox")
    with pytest.raises(ToolError, match="a fox"):
        DrawnAnswers(ScriptedReasoner(script=["<h> a fox </h>"]), broken, tmp_path).answer([ASKED], 64, ["a"])


def test_known_generation_tasks_are_drawn() -> None:
    assert [draws(name, "auto") for name in ("WISE", "gedit_bench_en", "pope")] == [True, True, False]
    assert draws("pope", "always") and not draws("WISE", "never")
    with pytest.raises(InputError, match="draw is 'often'. Allowed: 'auto', 'always', 'never'"):
        draws("pope", "often")
