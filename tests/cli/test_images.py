from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

from mgem_agent.artifacts import ArtifactStore, PictureAttempt, read_recipe
from mgem_agent.cli.app import app
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import ImageRequest, ImageResult, draw


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    monkeypatch.setenv("MGEM_HOME", str(tmp_path))
    return ArtifactStore()


def keep(store: ArtifactStore, prompt: str, **fields: Any) -> str:
    request = ImageRequest(prompt=prompt, **fields)
    pictures = {name: store.open(name) for name in request.picture_ids}
    events = draw(FlatColourGenerator(size=(48, 32)), [request], pictures=pictures)
    [result] = [event for event in events if isinstance(event, ImageResult)]
    return store.put(result).id


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["images", *arguments])


def test_attempts_of_a_look_are_shown(store: ArtifactStore) -> None:
    first, second = keep(store, "a fox", seed=1), keep(store, "a fox", seed=2)
    tried = [
        PictureAttempt(picture=first, prompt="a fox", score=0.5, problem="not seen: fox"),
        PictureAttempt(picture=second, prompt="a fox"),
    ]
    store.note_attempts(second, tried)
    lines = [" ".join(line.split()) for line in run("show", second).output.splitlines()]
    assert f"attempt {first} 50%: a fox not seen: fox" in lines and f"attempt {second} not scored: a fox" in lines
    assert json.loads(run("show", second, "--json").output)["attempts"][0]["score"] == 0.5


def test_an_empty_list(store: ArtifactStore) -> None:
    assert run("list").output == f"No pictures in {store.root}.\n"
    assert json.loads(run("list", "--json").output) == []


def test_the_list(store: ArtifactStore) -> None:
    fox = keep(store, "a [red]fox[/]\nby night", seed=7)
    given = store.put_picture(Image.new("RGB", (8, 6)), origin="holiday.jpg")
    lines = run("list").output.splitlines()
    assert lines[0].split() == ["id", "made", "size", "by", "seed", "what"]
    [row] = [line for line in lines if line.startswith(fox)]
    assert row.split()[3:] == ["48×32", "flat", "7", "a", "[red]fox[/]", "by", "night"]
    [row] = [line for line in lines if line.startswith(given.id)]
    assert row.split()[3:] == ["8×6", "holiday.jpg"]
    narrow = CliRunner(env={"COLUMNS": "50"}).invoke(app, ["images", "list"])
    assert fox in narrow.output
    assert len(run("list", "-n", "1").output.splitlines()) == 2
    assert {entry["id"] for entry in json.loads(run("list", "--json").output)} == {fox, given.id}


def test_the_list_skips_what_cannot_be_read(store: ArtifactStore) -> None:
    fox = keep(store, "a red fox")
    (store.root / "ab").mkdir(exist_ok=True)
    (store.root / "ab" / "img-ab0000000000.png").write_bytes(b"half")
    told = run("list", "--json")
    assert told.exit_code == 0
    assert [entry["id"] for entry in json.loads(told.stdout)] == [fox]
    assert told.stderr.endswith("img-ab0000000000.png. For the reason, run: mgem doctor\n")


def test_show(store: ArtifactStore) -> None:
    fox = keep(store, "a red fox", seed=7)
    lines = dict(line.split(maxsplit=1) for line in run("show", fox[:10]).output.splitlines())
    assert lines["file"] == str(store.path(fox))
    assert (lines["id"], lines["prompt"], lines["seed"], lines["generator"]) == (fox, "a red fox", "7", "flat")
    data = json.loads(run("show", fox, "--json").output)
    assert data["recipe"]["request"]["prompt"] == "a red fox" and data["file"] == str(store.path(fox))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "img-0000"), "There is no picture 'img-0000'"),
        (("show", "../x"), "is not a picture id. An id is 'img-' and hexadecimal digits"),
        (("redraw", "no.png"), "is not a picture id. An id is 'img-' and hexadecimal digits"),
    ],
)
def test_what_is_not_there(store: ArtifactStore, arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr


def test_lineage(store: ArtifactStore) -> None:
    given = store.put_picture(Image.new("RGB", (8, 6)), origin="fox.jpg").id
    night = keep(store, "at night", task="edit", image=given)
    both = keep(store, "both", references=(night, given))
    store.path(given).unlink()
    assert run("lineage", both).output.splitlines() == [
        f"{both}  text_to_image: both",
        f"├── {night}  edit: at night",
        f"│   └── {given}  (see above)",
        f"└── {given}  (not kept)",
    ]
    data = json.loads(run("lineage", both, "--json").output)
    assert list(data) == [both, night, given] and data[given] is None


def test_redraw_by_id_gives_the_same_bytes(store: ArtifactStore) -> None:
    start = store.put_picture(Image.new("RGB", (8, 6), "red"), origin="fox.jpg").id
    fox = keep(store, "at night", task="edit", image=start)
    result = run("redraw", fox)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].split() == ["id", fox]
    assert result.stdout.splitlines()[-1].split(maxsplit=1) == ["compared", "the same picture, byte for byte"]
    assert len(store.list()) == 2


def test_redraw_a_file_of_somebody_elses(store: ArtifactStore, tmp_path: Path) -> None:
    fox = keep(store, "a red fox")
    file = tmp_path / "from a friend.png"
    file.write_bytes(store.path(fox).read_bytes())
    store.path(fox).unlink()
    result = run("redraw", str(file), "--out", str(tmp_path / "new.png"))
    assert "the same picture, byte for byte" in result.stdout
    assert (tmp_path / "new.png").read_bytes() == file.read_bytes()


def test_redraw_says_how_the_new_picture_differs(store: ArtifactStore, tmp_path: Path) -> None:
    fox = keep(store, "a red fox")
    recipe = read_recipe(store.path(fox))
    assert recipe is not None
    with Image.open(store.path(fox)) as image:
        image.load()
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("mgem", recipe.model_dump_json())
        image.save(tmp_path / "resaved.png", pnginfo=chunks)
        Image.new("RGB", image.size).save(tmp_path / "black.png", pnginfo=chunks)
        Image.new("RGB", (3, 3)).save(tmp_path / "small.png", pnginfo=chunks)
    assert "the same pixels in another file" in run("redraw", str(tmp_path / "resaved.png")).stdout
    assert "another picture: pixels differ by up to " in run("redraw", str(tmp_path / "black.png")).stdout
    assert "another picture: 48×32 pixels instead of 3×3" in run("redraw", str(tmp_path / "small.png")).stdout


def test_redraw_of_what_was_not_drawn(store: ArtifactStore) -> None:
    given = store.put_picture(Image.new("RGB", (8, 6)), origin="fox.jpg").id
    result = run("redraw", given)
    assert result.exit_code == 1
    assert "has no record of how it was drawn, so it cannot be redrawn" in result.stderr


def test_redraw_with_a_generator_that_fails(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    fox = keep(store, "a red fox")
    result = run("redraw", fox, "--generator", "openai:gpt-image-2")
    assert result.exit_code == 1
    assert "needs a key. Set OPENAI_API_KEY" in result.stderr
    assert len(store.list()) == 1


def test_the_settled_store_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGEM_STORE", str(tmp_path / "elsewhere"))
    fox = keep(ArtifactStore(tmp_path / "elsewhere"), "a red fox")
    assert [entry["id"] for entry in json.loads(run("list", "--json").output)] == [fox]
