from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.story.vistory import (
    VistoryCharacter,
    VistoryShot,
    VistoryStory,
    outputs_folder,
    read_outputs,
    read_stories,
    write_outputs,
    write_story,
)


@pytest.fixture
def story(tmp_path: Path) -> VistoryStory:
    Image.new("RGB", (8, 8)).save(tmp_path / "fox.png")
    fox = VistoryCharacter("Fox", "Fox", "a red fox", "animal", (tmp_path / "fox.png",))
    shots = tuple(VistoryShot(f"plot {n}", "a wood", ("Fox",), "a fox", "close") for n in range(3))
    return VistoryStory("01", "fables", shots, {"Fox": fox})


def test_a_story_is_written_and_read(story: VistoryStory, tmp_path: Path) -> None:
    write_story(story, tmp_path / "ViStory")
    (found,) = read_stories(tmp_path / "ViStory")
    assert (found.shots, found.kind, found.id) == (story.shots, "fables", "01")
    assert found.characters["Fox"].images == (tmp_path / "ViStory/01/image/Fox/00.png",)


def test_the_other_language_is_read(story: VistoryStory, tmp_path: Path) -> None:
    write_story(story, tmp_path)
    file = tmp_path / "01" / "story.json"
    told = json.loads(file.read_text())
    for shot in told["Shots"]:
        for value in shot.values():
            if isinstance(value, dict):
                value["ch"] = "狐狸"
    told["Characters"]["Fox"]["name_ch"] = "狐狸"
    file.write_text(json.dumps(told))
    (found,) = read_stories(tmp_path, "ch")
    assert found.shots[0].plot == "狐狸" and found.shots[0].characters == ("Fox",)
    assert found.characters["Fox"].name == "狐狸"


def test_what_is_wrong_with_a_data_set_is_said(story: VistoryStory, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no stories. Give ViStoryBench's folder ViStory"):
        read_stories(tmp_path)
    write_story(story, tmp_path)
    file = tmp_path / "01" / "story.json"
    whole = file.read_text()
    file.write_text(whole.replace("Static Shot Description", "Script"))
    with pytest.raises(InputError, match="is no story of ViStoryBench: KeyError"):
        read_stories(tmp_path)
    file.write_text(whole.replace('"Fox": {', '"Bear": {'))
    with pytest.raises(InputError, match="shows 'Fox', who is none of its Characters"):
        read_stories(tmp_path)
    file.write_text(whole)
    (tmp_path / "01/image/Fox/00.png").unlink()
    with pytest.raises(InputError, match="no reference picture in image/Fox/"):
        read_stories(tmp_path)


def test_outputs_are_where_the_scorer_of_vistorybench_reads_them(story: VistoryStory, tmp_path: Path) -> None:
    run = outputs_folder(tmp_path / "outputs", "mgem-nano", "base", "en", "20261129-031500")
    picture = story.characters["Fox"].images[0]
    write_outputs(run, "01", [picture, None, picture])
    shots = tmp_path / "outputs/mgem-nano/base/en/20261129-031500/01/shots"
    assert sorted(path.name for path in shots.iterdir()) == ["00.png", "02.png"]
    assert read_outputs(run, [story]) == {"01": [shots / "00.png", None, shots / "02.png"]}
    with pytest.raises(InputError, match="Write it as 20261129-031500"):
        outputs_folder(tmp_path, "a", "b", "en", "today")
    with pytest.raises(InputError, match="'../x' is no name of a folder"):
        outputs_folder(tmp_path, "../x", "b", "en", "20261129-031500")


def test_outputs_of_other_methods_are_read(story: VistoryStory, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no pictures"):
        read_outputs(tmp_path, [story])
    (tmp_path / "01").mkdir()
    for name in ("shot_01.png", "shot_03.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "01" / name)
    found = read_outputs(tmp_path, [story])["01"]
    assert [None if path is None else path.name for path in found] == ["shot_01.png", None, "shot_03.png"]
    Image.new("RGB", (8, 8)).save(tmp_path / "01" / "end.png")
    assert [path.name for path in read_outputs(tmp_path, [story])["01"] if path][0] == "end.png"
