"""Recipes: what is allowed, and what is said of the rest."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from mgem_agent.errors import InputError
from mgem_agent.workflows.story_recipe import StoryRecipe, load_story_recipe

FULL = """
version: 1
title: The key
premise: A mouse finds a key.
language: pt-BR
scenes:
  - title: The find
    text: |
      A mouse finds a key.

      It shines.
    characters: [pip]
  - caption: a mouse before a door
cast:
  - {name: Pip, looks: a grey mouse}
consistency: reference
seed: 7
references: [pictures/pip.png]
"""


def write(folder: Path, text: str, name: str = "story.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_full_recipe_from_yaml(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "pictures" / "pip.png")
    recipe = load_story_recipe(write(tmp_path, FULL))
    assert recipe.num_scenes == 2
    assert recipe.scene_recipes[0].text == "A mouse finds a key.\n\nIt shines."
    assert recipe.reference_paths == (tmp_path.resolve() / "pictures" / "pip.png",)
    again = StoryRecipe.model_validate_json(recipe.model_dump_json())
    assert again.model_dump() == recipe.model_dump()


def test_the_shortest_recipe_and_the_same_from_json(tmp_path: Path) -> None:
    recipe = load_story_recipe(write(tmp_path, "premise: A mouse."))
    assert recipe == StoryRecipe.from_premise("A mouse.")
    assert recipe.scene_recipes == StoryRecipe.from_premise("A mouse.", scenes=[{}] * 6).scene_recipes
    assert load_story_recipe(write(tmp_path, '{"premise": "A mouse."}', "story.json")) == recipe


def test_its_schema_describes_every_field() -> None:
    schema = StoryRecipe.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    fields = {name: field for model in models for name, field in model["properties"].items()}
    assert [name for name, field in fields.items() if not field.get("description")] == []
    assert schema["additionalProperties"] is False
    json.dumps(schema)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("premise: x\nlangauge: de", "langauge: unknown key. Did you mean 'language'?"),
        ("premise: x\nscenes: [{captoin: y}]", "scenes[1].captoin: unknown key. Did you mean 'caption'?"),
        ("premise: x\ncast: [{name: P, zzz: y}]", "cast[1].zzz: unknown key. Allowed here: name, looks."),
        ("premise: x\nscenes: 0", "scenes: Input should be greater than or equal to 1 (got 0)"),
        ("premise: x\nscenes: true", "scenes: Input should be a valid integer (got True)"),
        ("premise: x\nlanguage: deutsch please", "language: String should match pattern"),
        ("premise: x\nconsistency: reference-ish", "consistency: Input should be 'auto', 'seed+card', 'ip_adapter'"),
        ("premise: x\nscenes: 2\ncover: 3", "cover is 3; the story has 2 scenes. Give 1 to 2."),
        ("title: x", "There is no premise, and scene 1 has neither title, text nor caption. Give a premise."),
        (
            "premise: x\nscenes: [{characters: [Tom]}]\ncast: [{name: Pip}]",
            "Scene 1 has 'Tom', who is not in the cast. The cast: 'Pip'.",
        ),
        (
            "premise: x\ncast: [{name: Pip}, {name: pip}]",
            "'Pip' is in the cast twice. Give each character a different name.",
        ),
        (
            "premise: x\nreferences: [a.png]\nconsistency: none",
            "references are given, but consistency='none' does not use them.",
        ),
    ],
)
def test_what_is_wrong_with_a_recipe(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=re.escape(said)) as error:
        load_story_recipe(path)
    assert str(error.value).startswith(f"The recipe {str(path)!r} is not valid:\n  ")
    assert "All keys: version, title, premise, kind" in str(error.value)


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "C:\\a.png", "x/../../a.png", "http://a/b.png", " ", "a\0"])
def test_a_picture_out_of_the_folder_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="is not a path within the recipe's folder"):
        StoryRecipe(premise="x", references=(name,))


def test_a_picture_that_is_missing_or_behind_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    path = write(folder, "premise: x\nreferences: [a.png]")
    with pytest.raises(InputError, match=r"The picture 'a\.png' of the recipe is not in .* Put it there, or leave"):
        load_story_recipe(path)
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (folder / "a.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"The picture 'a\.png' of the recipe leads out of its folder"):
        load_story_recipe(path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"- a\n- b", "has no keys. The shortest recipe is one line"),
        (b"", "has no keys"),
        (b"premise: " + b"x" * 1_000_001, "is larger than 1,000,000 bytes"),
        (b"premise: [", "cannot be read: .* Correct it there"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "story.yaml"
    path.write_bytes(data)
    with pytest.raises(InputError, match=said):
        load_story_recipe(path)


def test_bytes_that_are_not_utf_8_are_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "story.yaml"
    path.write_bytes(b"premise: a caf\xe9")
    assert load_story_recipe(path).premise == "a caf\ufffd"
    assert "is not valid UTF-8 at byte 14" in caplog.text
    path.write_bytes("premise: a café".encode("utf-16"))
    assert load_story_recipe(path).premise == "a café"


def test_many_wrong_keys_are_not_all_listed(tmp_path: Path) -> None:
    path = tmp_path / "story.yaml"
    path.write_text("premise: x\n" + "".join(f"k{n}: 1\n" for n in range(60_000)))
    with pytest.raises(InputError, match="and 59,990 more places") as caught:
        load_story_recipe(path)
    assert len(str(caught.value)) < 4_000


def test_a_pipe_is_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "story.yaml"
    os.mkfifo(path)
    with pytest.raises(InputError, match="is a pipe or a device, not a file"):
        load_story_recipe(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file or directory. Check the path."):
        load_story_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "fields", [{"cast": [{"name": "x" * 61}]}, {"premise": "x" * 4_001}, {"scenes": 65}, {"seed": -1}, {"width": 8}]
)
def test_limits(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StoryRecipe(**{"premise": "x", **fields})


def test_control_characters_become_spaces() -> None:
    assert StoryRecipe(premise="a\x1b[31mred\x00fox").premise == "a [31mred fox"


def test_a_page_has_a_title_as_the_book_has_and_earlier_recipes_called_it_heading() -> None:
    new = StoryRecipe(scenes=[{"title": "Found", "caption": "a key"}])  # type: ignore[arg-type]
    assert new == StoryRecipe(scenes=[{"heading": "Found", "caption": "a key"}])  # type: ignore[arg-type]
    assert new.scene_recipes[0].title == "Found"
    fields = StoryRecipe.model_json_schema()["$defs"]["SceneRecipe"]["properties"]
    assert "title" in fields and "heading" not in fields
