from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mgem_agent.cli.app import app
from mgem_agent.cli.story_batch import StoryStepMaker
from mgem_agent.settings import load_settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MGEM_HOME", str(tmp_path / "home"))
    (tmp_path / "config.toml").write_text("[picture]\nwidth = 32\nheight = 32\n")
    monkeypatch.setenv("MGEM_CONFIG", str(tmp_path / "config.toml"))
    for name, thing in (("one", "fox"), ("two", "hen")):
        (tmp_path / f"{name}.yaml").write_text(
            f"title: {name}\nkind: explainer\nscenes:\n  - text: There is a {thing}.\n    caption: a {thing}\n"
        )
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["story", "--batch", "-g", "flat", "--formats", "md", *arguments])


def test_stories_have_folders_of_their_own_and_are_told_once(home: Path) -> None:
    result = run("one.yaml", "two.yaml")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [str(home / "books" / name / "book.md") for name in ("one", "two")]
    written = (home / "books" / "one" / "story.json").stat().st_mtime_ns
    told = json.loads(run("one.yaml", "two.yaml", "--json").stdout)
    assert (told["done"], told["done_before"], told["failed"]) == (0, 2, 0)
    assert (home / "books" / "one" / "story.json").stat().st_mtime_ns == written


def test_a_story_that_fails_stops_no_other(home: Path) -> None:
    (home / "config.toml").write_text("[generator_options.flat]\nfail_on = 'fox'\n")
    result = run("one.yaml", "two.yaml", "--out", "out")
    assert result.exit_code == 1
    assert "2 stories: 1 done, 0 done before, 1 failed." in result.stderr
    assert "one: failed: 1 of 1 pictures failed" in result.stderr
    assert (home / "out" / "two" / "book.md").exists()


def test_files_of_one_name_have_different_folders(home: Path) -> None:
    (home / "other").mkdir()
    (home / "other" / "one.yaml").write_text((home / "two.yaml").read_text())
    result = run("one.yaml", "other/one.yaml")
    assert result.exit_code == 0, result.stderr
    first, second = (Path(line).parent.name for line in result.stdout.splitlines())
    assert first == "one" and second.startswith("one-")
    assert "was given twice" in run("one.yaml", "other/one.yaml", "other/one.yaml").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "No story was given. Give one or more recipes"),
        (("nope",), "There is no story recipe 'nope'"),
        (("one.yaml", "--approve"), "--approve applies to one story"),
        (("one.yaml", "--resume"), "--resume applies to one story"),
        (("one.yaml", "--gpus", "1"), "--gpus applies only to work on Ray"),
    ],
)
def test_what_does_not_fit_is_refused(home: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1 and message in result.stderr
    assert not (home / "books").exists()


def test_several_stories_need_the_option(home: Path) -> None:
    result = CliRunner().invoke(app, ["story", "a", "fox"])
    assert result.exit_code == 1 and "2 stories were given. Add --batch" in result.stderr
    result = CliRunner().invoke(app, ["story", "a fox", "--workers", "2"])
    assert result.exit_code == 1 and "--workers applies only to work on Ray" in result.stderr


def test_what_a_worker_gets_can_be_sent_to_it(home: Path) -> None:
    maker = StoryStepMaker(load_settings(generator="flat", budget={"book": "2pictures"}), ("md",))
    copy = pickle.loads(pickle.dumps(maker))
    assert copy == maker and copy().run([]) is not None
