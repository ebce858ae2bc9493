"""`mgem eval story`: stories are drawn in the layout of ViStoryBench and scored, or only scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from mgem_agent.cli.app import app
from mgem_agent.recipes.eval.story.vistory import VistoryCharacter, VistoryShot, VistoryStory, write_story
from mgem_agent.testing import ScriptedReasoner


def run(*args: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["eval", "story", *map(str, args)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    Image.effect_noise((32, 32), 90).convert("RGB").save(tmp_path / "fox.png")
    fox = VistoryCharacter("Fox", "Fox", "a red fox", "animal", (tmp_path / "fox.png",))
    shots = tuple(VistoryShot("The fox goes.", "a wood", ("Fox",), "a fox walks", "close") for _ in range(2))
    write_story(VistoryStory("01", "fables", shots, {"Fox": fox}), tmp_path / "ViStory")
    return tmp_path / "ViStory"


def test_stories_are_drawn_and_scored(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = json.loads(run(dataset, "-g", "flat", "--threshold", -1, "-o", out, "--json").stdout)
    ((name, report),) = told.items()
    assert name.startswith("outputs/mgem-flat/base/en/20")
    assert [path.name for path in sorted((out / name / "01" / "shots").iterdir())] == ["00.png", "01.png"]
    assert report["scores"][0]["occm"] == 100 and report["comparable"] == []
    again = json.loads(run(dataset, "-g", "flat", "--threshold", -1, "-o", out, "--json").stdout)
    assert again == told  # nothing is drawn again
    alone = run(dataset, "--pictures", out / name, "-o", tmp_path / "alone").stdout
    assert "CIDS cross" in alone and "not comparable" in alone


def test_pages_that_fail_are_drawn_again_under_another_method(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(request: Any) -> str:
        content = request.dialogue[-1]["content"]
        if isinstance(content, str):  # the caption, to be broken into questions
            return json.dumps({"questions": [{"question": "Is there a fox in the picture?", "kind": "thing"}]})
        return json.dumps({"answers": ["no"] * content[-1]["text"].count("?\n")})

    judge = ScriptedReasoner(script=[never], is_endless=True)
    monkeypatch.setattr("mgem_agent.reasoners.make_reasoner", lambda name, **options: judge)
    out = tmp_path / "out"
    told = json.loads(run(dataset, "-g", "flat", "--threshold", -1, "-o", out, "--look", "retry-1", "--json").stdout)
    plain, looked = told
    assert plain.startswith("outputs/mgem-flat/base/") and looked.startswith("outputs/mgem-flat-retry-1/base/en/20")
    assert told[looked]["gains"]["occm"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "num": 1}
    (story,) = (out / "stories" / "mgem-flat-retry-1").rglob("story.json")
    assert [len(scene["attempts"]) for scene in json.loads(story.read_text())["scenes"]] == [2, 2]


def test_a_data_set_is_needed() -> None:
    assert "Name a data set: mgem eval story ViStory" in run(code=1).stderr
