from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.world.data_card import write_data_card
from mgem_agent.recipes.nano.world.dataset import SceneDataSettings, scene_record, write_scenes
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.generation_dataset import write_generation

SETTINGS = SceneDataSettings(size_px=32)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_record_has_a_picture_and_a_dialogue(tmp_path: Path, assets: EmojiAssets) -> None:
    path = write_scenes(tmp_path, 3, assets, SETTINGS)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert records == [scene_record(index, SETTINGS) for index in range(3)]
    for record in records:
        with Image.open(tmp_path / record["image"]) as image:
            assert image.size == (32, 32)
        turns = record["conversations"]
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * len(record["answer_kinds"])
        assert [turn["value"].startswith("<image>\n") for turn in turns] == [True] + [False] * (len(turns) - 1)
        assert len(record["accepted"]) == len(record["answer_kinds"])


def test_an_interrupted_run_goes_on_to_the_same_files(tmp_path: Path, assets: EmojiAssets) -> None:
    write_scenes(tmp_path / "whole", 5, assets, SETTINGS)

    class KilledError(Exception):
        pass

    def kill(done: int) -> None:
        if done == 2:
            raise KilledError

    with pytest.raises(KilledError):
        write_scenes(tmp_path / "parts", 5, assets, SETTINGS, report=kill)
    with (tmp_path / "parts/train.jsonl").open("a") as file:
        file.write('{"id": "cut o')  # killed in the middle of a line
    write_scenes(tmp_path / "parts", 5, assets, SETTINGS)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_processes_make_the_same_files_as_one(tmp_path: Path, assets: EmojiAssets) -> None:
    write_scenes(tmp_path / "one", 20, assets, SETTINGS)
    write_scenes(tmp_path / "two", 20, assets, SETTINGS, num_processes=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_other_settings_do_not_go_into_the_same_file(tmp_path: Path, assets: EmojiAssets) -> None:
    write_scenes(tmp_path, 1, assets, SETTINGS)
    with pytest.raises(InputError, match="was made with other settings: .*Use these, give another path"):
        write_scenes(tmp_path, 2, assets, SceneDataSettings(size_px=48))
    with pytest.raises(InputError, match="0 scenes by 1 processes cannot be made. Give 1 or more"):
        write_scenes(tmp_path, 0, assets, SETTINGS)


def test_the_card_counts_what_is_there(tmp_path: Path, assets: EmojiAssets) -> None:
    write_scenes(tmp_path, 4, assets, SETTINGS)
    write_generation(tmp_path, 30)
    card = write_data_card(tmp_path).read_text()
    assert "## train.jsonl\n\n4 records," in card
    assert "## generation_train.jsonl\n\n30 records," in card
    assert "answers have a caption to draw." in card and "| recaption |" in card
    assert "`emojibase-data` 17.0.0, MIT" in card
    with pytest.raises(InputError, match="has no file of records .* mgem data scenes --help"):
        write_data_card(tmp_path / "train")
