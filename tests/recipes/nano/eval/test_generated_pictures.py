from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from mgem_agent.errors import GeneratorUnavailableError, InputError
from mgem_agent.recipes.nano.eval.generated_pictures import (
    draw_captions,
    draw_real,
    measure_recognition,
    name_pictures,
    write_contact_sheet,
)
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene import Scene, SceneObject
from mgem_agent.testing import FlatColourGenerator


class Names:
    def __init__(self, *names: list[str]) -> None:
        self.names = names

    def name(self, pictures: Sequence[Image.Image], num: int = 5) -> list[list[str]]:
        return [names[:num] for names in self.names]


def scene(*concepts: str) -> Scene:
    return Scene(0, "beach", tuple(SceneObject(concept, 0.5, 0.5, 0.4) for concept in concepts))


def test_what_is_drawn_is_kept_and_what_failed_is_drawn_again(tmp_path: Path) -> None:
    first = draw_captions(FlatColourGenerator(size=(32, 32)), tmp_path / "all", {}, num=3)
    failing = FlatColourGenerator(size=(32, 32), fail_on=first[1].caption)
    drawn = draw_captions(failing, tmp_path / "some", {"name": "flat"}, num=3)
    assert [each.caption for each in drawn] == [first[0].caption, first[2].caption]
    generator = FlatColourGenerator(size=(32, 32))
    told: list[tuple[int, int]] = []
    drawn = draw_captions(
        generator, tmp_path / "some", {"name": "flat"}, num=4, report=lambda *numbers: told.append(numbers)
    )
    assert [(request.prompt, request.seed) for request in generator.drawn] == [
        (drawn[1].caption, 1),
        (drawn[3].caption, 3),
    ]
    assert told == [(2, 4), (4, 4)]
    assert [each.file.read_bytes() for each in drawn[:3]] == [each.file.read_bytes() for each in first]
    with pytest.raises(InputError, match="was made with other settings"):
        draw_captions(generator, tmp_path / "some", {"name": "other"}, num=4)
    with pytest.raises(InputError, match="0 captions cannot be drawn"):
        draw_captions(generator, tmp_path / "some", {}, num=0)


def test_a_picture_that_was_deleted_is_drawn_again(tmp_path: Path) -> None:
    drawn = draw_captions(FlatColourGenerator(size=(32, 32)), tmp_path, {}, num=1)
    before = drawn[0].file.read_bytes()
    drawn[0].file.unlink()
    assert draw_captions(FlatColourGenerator(size=(32, 32)), tmp_path, {}, num=1)[0].file.read_bytes() == before


def test_a_generator_that_is_not_there_ends_it(tmp_path: Path) -> None:
    class Absent(FlatColourGenerator):
        def generate(self, *args: object, **options: object) -> object:  # type: ignore[override]
            raise GeneratorUnavailableError("There are no weights.")

    with pytest.raises(GeneratorUnavailableError, match="There are no weights"):
        draw_captions(Absent(), tmp_path, {}, num=1)


def test_names_are_counted_by_the_number_of_things() -> None:
    namer = Names(["fox", "dog"], ["dog", "fox"], ["owl", "dog", "fox"], ["owl", "dog", "cat"])
    scenes = [scene("fox"), scene("fox"), scene("fox", "owl"), scene("fox", "owl")]
    found = name_pictures(namer, [Image.new("RGB", (8, 8))] * 4, scenes)
    assert {
        title: (each.first.num_right, each.among_five.num_right, each.first.num) for title, each in found.items()
    } == {
        "one thing": (1, 2, 2),
        "two things": (2, 1, 2),
    }


def test_a_model_is_asked_what_there_is_and_must_name_every_thing() -> None:
    asked: list[str] = []

    class Seeing:
        def answer(self, pictures: Sequence[Image.Image], questions: Sequence[str]) -> list[str]:
            asked.extend(questions)
            answers = ["A fox.", "A red apple.", "An owl and a dog.", "An owl, a fox."]
            return [answers[picture.width - 1] for picture in pictures]

    scenes = [scene("fox"), scene("fox"), scene("fox", "owl"), scene("fox", "owl")]
    told: list[tuple[int, int]] = []
    found = measure_recognition(
        Seeing(), [Image.new("RGB", (side, 8)) for side in (1, 2, 3, 4)], scenes, lambda *numbers: told.append(numbers)
    )
    assert {title: (share.num_right, share.num) for title, share in found.items()} == {
        "one thing": (1, 2),
        "two things": (1, 2),
    }
    assert asked == ["What is in the picture?"] * 2 + ["Which things do you see?"] * 2
    assert told == [(0, 4), (4, 4)]


def test_the_scenes_themselves_and_the_sheet(tmp_path: Path, drawn_assets: EmojiAssets) -> None:
    drawn = draw_captions(FlatColourGenerator(size=(32, 32)), tmp_path, {}, num=2)
    assert [picture.size for picture in draw_real(drawn, drawn_assets, 32)] == [(32, 32)] * 2
    with Image.open(write_contact_sheet(drawn, tmp_path / "sheet.png")) as sheet:
        assert (sheet.format, sheet.width) == ("PNG", 2 * 212 + 12)
    assert not list(tmp_path.glob("*.part"))
