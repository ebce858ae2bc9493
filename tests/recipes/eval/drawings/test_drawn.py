from __future__ import annotations

from pathlib import Path

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.drawings.drawn import draw_prompts, drawn_files
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner

PROMPTS = ["a fox", "a bear", "a hen"]


def test_failed_pictures_are_drawn_by_the_next_run(tmp_path: Path) -> None:
    first = draw_prompts(PROMPTS, FlatColourGenerator(fail_on="bear"), tmp_path, {})
    assert [file is not None for file in first] == [True, False, True]
    generator = FlatColourGenerator()
    second = draw_prompts(PROMPTS, generator, tmp_path, {})
    assert [request.prompt for request in generator.drawn] == ["a bear"]
    assert second == drawn_files(tmp_path, PROMPTS) and None not in second
    with pytest.raises(InputError, match="made with other settings"):
        draw_prompts(PROMPTS, generator, tmp_path, {}, seed=1)


def test_a_reasoner_writes_the_captions(tmp_path: Path) -> None:
    generator = FlatColourGenerator()
    reasoner = ScriptedReasoner(script=["<h> a red fox </h>"])
    draw_prompts(PROMPTS[:1], generator, tmp_path, {}, reasoner=reasoner, seed=3)
    assert [(request.prompt, request.seed) for request in generator.drawn] == [("a red fox", 3)]
