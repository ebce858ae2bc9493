from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.cli.app import app
from mgem_agent.cli.draw import DrawOptions, read_generator_options, run_draw
from mgem_agent.errors import InputError
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MGEM_HOME", str(tmp_path / "home"))
    (tmp_path / "config.toml").write_text("[picture]\nwidth = 48\n[generator_options.flat]\nfail_on = 'ghost'\n")
    monkeypatch.setenv("MGEM_CONFIG", str(tmp_path / "config.toml"))
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["draw", "-g", "flat", *arguments])


def test_pictures_are_kept_and_named(home: Path) -> None:
    result = run("a fox", "-n", "2", "--seed", "7", "--steps", "3", "--guidance", "4.5", "--negative", "snow")
    assert result.exit_code == 0, result.stderr
    store = ArtifactStore()
    made = [store.get(Path(path).stem).recipe for path in result.stdout.splitlines()]
    asked = [recipe.request for recipe in made if recipe]
    assert [(each.seed, each.width, each.num_inference_steps, each.negative_prompt) for each in asked] == [
        (7, 48, 3, "snow"),
        (8, 48, 3, "snow"),
    ]
    assert {each.guidance_scale for each in asked} == {4.5}


def test_a_size_and_files(home: Path) -> None:
    result = run("a fox", "--size", "64x32", "--out", "fox.png")
    assert (result.stdout, result.exit_code) == ("fox.png\n", 0)
    assert ArtifactStore().list()[0].width == 64
    result = run("a hen", "-n", "2", "--out", "sub/hen.png", "--json")
    paths = [event["path"] for event in map(json.loads, result.stdout.splitlines()) if event["kind"] == "picture"]
    assert paths == ["sub/hen-1.png", "sub/hen-2.png"]
    assert Path("sub/hen-1.png").read_bytes() != Path("sub/hen-2.png").read_bytes()
    assert run("a fox", "--size", "12").exit_code == 2


def test_a_picture_is_changed(home: Path) -> None:
    run("a fox", "--out", "fox.png")
    fox = ArtifactStore().list()[0].id
    for options, task in (
        ([], "edit"),
        (["--strength", "0.4"], "image_to_image"),
        (["--mask", "fox.png"], "inpaint"),
    ):
        result = run("at night", "--image", "fox.png", "--reference", fox, *options)
        artifact = ArtifactStore().get(Path(result.stdout.strip()).stem)
        assert artifact.recipe is not None
        assert artifact.recipe.request.task == task
        assert artifact.recipe.request.references == (fox,)
        assert artifact.parents == (fox,)
    result = run("at night", "--mask", "fox.png")
    assert result.stderr == (
        "Error: --mask and --strength apply only to an edit. Add --image with the picture to change.\n"
    )
    assert "'nope.png' is neither a file nor the id of a picture." in run("x", "-a", "nope.png").stderr
    assert "This edit is not possible" in run("x", "-a", "fox.png", "--strength", "2").stderr


def test_what_fails_is_said_and_the_rest_is_there(home: Path) -> None:
    result = run("a ghost")
    assert (result.stdout, result.stderr, result.exit_code) == ("", "Error: The card 'a ghost' came out blank.\n", 1)


def test_the_reasoner_writes_the_caption(home: Path, capsys: Any) -> None:
    generator = FlatColourGenerator(size=(32, 32))
    reasoner = ScriptedReasoner(script=["<h> a red fox in deep snow, at dawn </h>", "No idea.", "still none"])
    options = DrawOptions(1, {"seed": 3}, recaption=True)
    run_draw("a fox", options, {}, reasoner=reasoner, generator=generator)
    assert [(each.prompt, each.seed) for each in generator.drawn] == [("a red fox in deep snow, at dawn", 3)]
    assert "a red fox in deep snow, at dawn" in capsys.readouterr().err
    assert len(reasoner.requests) == 1


def test_ctrl_c_keeps_what_is_drawn(home: Path, capsys: Any) -> None:
    import signal

    class Pressed(FlatColourGenerator):
        def generate(self, requests: Any, **options: Any) -> Any:
            for event in super().generate(requests, **options):
                yield event
                if not hasattr(event, "step") and event.index == 0:
                    signal.raise_signal(signal.SIGINT)
                    assert options["cancel"].wait(10)

    with pytest.raises(typer.Exit) as left:
        run_draw("a fox", DrawOptions(2, {}), {}, generator=Pressed(size=(32, 32)))
    assert left.value.exit_code == 130
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "stopping; press Ctrl-C again to exit at once" in err
    assert "The request was cancelled." in err


def test_a_mask_needs_a_picture(home: Path) -> None:
    with pytest.raises(InputError, match="Add --image"):
        run_draw("a fox", DrawOptions(1, {}, mask="x.png"), {}, generator=FlatColourGenerator())


def test_options_of_the_generator(home: Path) -> None:
    words = ["quality=high", "clip_skip=2", "upscale=null", "note=a=b"]
    assert read_generator_options(words) == {"quality": "high", "clip_skip": 2, "upscale": None, "note": "a=b"}
    with pytest.raises(InputError, match="--option must be NAME=VALUE, got 'quality'"):
        read_generator_options(["quality"])
    result = CliRunner().invoke(app, ["draw", "a fox", "-g", "flat", "--option", "glitter=much"])
    assert result.exit_code == 1
    assert "glitter" in result.stderr


def test_a_budget_ends_the_drawing(home: Path) -> None:
    result = run("a fox", "-n", "3", "--budget", "2pictures")
    assert result.exit_code == 1 and len(result.stdout.splitlines()) == 2
    assert "Error: The budget of this turn is 2 pictures. Spent: 2 pictures." in result.stderr
    assert ArtifactStore().list()[0].cost_usd == 0.0
    assert "is not an amount with a unit" in run("a fox", "--budget", "much").stderr
