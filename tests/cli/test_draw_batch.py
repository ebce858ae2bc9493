from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.cli.app import app


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MGEM_HOME", str(tmp_path / "home"))
    (tmp_path / "config.toml").write_text("[picture]\nwidth = 48\n[generator_options.flat]\nfail_on = 'ghost'\n")
    monkeypatch.setenv("MGEM_CONFIG", str(tmp_path / "config.toml"))
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["draw", "-g", "flat", *arguments])


def write(path: Path, *lines: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_file_of_prompts_is_drawn_and_continued(home: Path) -> None:
    write(
        home / "prompts.jsonl", {"prompt": "a fox", "id": "fox", "seed": 7}, {"prompt": "a ghost"}, {"prompt": "a hen"}
    )
    result = run("--batch", "prompts.jsonl", "--steps", "2")
    assert result.exit_code == 1
    fox, hen = result.stdout.splitlines()
    assert fox == str(home / "prompts" / "fox.png") and Path(hen).name.startswith("a-hen-")
    assert "3 pictures: 2 done, 0 done before, 1 failed." in result.stderr
    assert "The first: The card 'a ghost' came out blank." in result.stderr
    rows = [json.loads(line) for line in (home / "prompts" / "manifest.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    recipe = ArtifactStore().get(rows[0]["result"]["artifact_id"]).recipe
    assert recipe is not None
    assert (recipe.request.seed, recipe.request.width, recipe.request.num_inference_steps) == (7, 48, 2)

    (home / "config.toml").write_text("[picture]\nwidth = 48\n")
    again = run("--batch", "prompts.jsonl", "--steps", "2", "--json")
    told = json.loads(again.stdout)
    assert (again.exit_code, told["done"], told["done_before"], told["failed"]) == (0, 1, 2, 0)


def test_text_files_numbers_and_folders(home: Path) -> None:
    (home / "prompts.txt").write_text("a fox\n\na fox\n")
    result = run("--batch", "prompts.txt", "-n", "2", "--seed", "3", "--out", "out")
    assert result.exit_code == 0, result.stderr
    files = [Path(line) for line in result.stdout.splitlines()]
    assert len(set(files)) == 4 and {path.parent for path in files} == {home / "out"}
    seeds = {artifact.recipe.request.seed for artifact in ArtifactStore().list() if artifact.recipe is not None}
    assert seeds == {3, 4}


def test_pictures_of_a_line_are_files_next_to_it_or_ids(home: Path) -> None:
    (home / "in").mkdir()
    Image.new("RGB", (48, 48), "red").save(home / "in" / "red.png")
    write(home / "in" / "edits.jsonl", {"prompt": "at night", "image": "red.png", "id": "night"})
    result = run("--batch", "in/edits.jsonl", "--out", "out")
    assert result.exit_code == 0, result.stderr
    recipe = next(each.recipe for each in ArtifactStore().list() if each.recipe is not None)
    assert recipe.request.task == "edit" and recipe.request.image is not None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Line 1 of 'prompts.jsonl' is not a prompt: it is not JSON"),
        ('{"text": "a fox"}', 'it is not an object with a "prompt"'),
        ('{"prompt": "a fox", "id": "../fox"}', "the id '../fox' cannot be the name of a file"),
        ('{"prompt": "a fox", "colour": "red"}', "The image request is not valid"),
        ('{"prompt": "a fox", "image": "red.png"}', "'red.png' is neither a file nor the id of a picture"),
        ("", "'prompts.jsonl' has no prompts"),
        ('{"prompt": "a", "id": "x"}\n{"prompt": "b", "id": "x"}', "Two prompts have the id 'x'"),
    ],
)
def test_a_file_that_is_not_valid_is_refused_before_anything_is_drawn(home: Path, line: str, message: str) -> None:
    (home / "prompts.jsonl").write_text(f"{line}\n")
    result = run("--batch", "prompts.jsonl")
    assert result.exit_code == 1 and message in result.stderr
    assert not (home / "prompts").exists()


def test_options_that_do_not_fit_are_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "p.txt").write_text("a fox\n")
    monkeypatch.setitem(sys.modules, "ray", None)
    for arguments, message in (
        ([], "Give either a prompt, or --batch"),
        (["a fox", "--batch", "p.txt"], "Give either a prompt, or --batch"),
        (["--batch", "nope.txt"], "The file of prompts 'nope.txt' does not exist"),
        (["--batch", "p.txt", "--image", "x.png"], "--image applies to one prompt"),
        (["--batch", "p.txt", "--recaption"], "--recaption applies to one prompt"),
        (["--batch", "p.txt", "--workers", "2"], "--workers applies only to work on Ray"),
        (["--batch", "p.txt", "--ray", "local"], "needs the package 'ray'. Run: pip install 'mgem-agent[ray]'"),
    ):
        result = run(*arguments)
        assert result.exit_code == 1 and message in result.stderr, arguments
